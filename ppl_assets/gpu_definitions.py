"""The GPU code location: the assets that run models, under an executor of their own."""

import dagster as dg

from ppl_assets.benchmarks.assets import benchmark_scores
from ppl_assets.likelihood.assets import chunk_logliks
from ppl_assets.orchestration.executors import gpu_executor
from ppl_assets.orchestration.sensors import stale_assets_sensor
from ppl_assets.orchestration.step import WorkspaceResource
from ppl_assets.pilot.assets import pilot_runs
from ppl_assets.training.assets import model_zoo

ASSETS = [model_zoo, benchmark_scores, chunk_logliks, pilot_runs]

defs = dg.Definitions(
    assets=ASSETS,
    sensors=[stale_assets_sensor("keep_models_current", ASSETS)],
    resources={"workspace": WorkspaceResource()},
    executor=gpu_executor(),
)
