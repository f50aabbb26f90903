"""The dynamic partitions: models by slug, training runs and arms of a pilot by name.

Keys are validated where the study is loaded.
"""

import dagster as dg

model_partitions = dg.DynamicPartitionsDefinition(name="model")
run_partitions = dg.DynamicPartitionsDefinition(name="run")
arm_partitions = dg.DynamicPartitionsDefinition(name="arm")
