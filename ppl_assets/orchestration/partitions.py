"""The dynamic partitions: models by slug, training runs by name. Keys are validated where the study is loaded."""

import dagster as dg

model_partitions = dg.DynamicPartitionsDefinition(name="model")
run_partitions = dg.DynamicPartitionsDefinition(name="run")
