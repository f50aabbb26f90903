"""The CPU code location: a table of contents of the asset graph."""

import dagster as dg

from ppl_assets.benchmarks.assets import benchmark_tasks
from ppl_assets.corpus.assets import corpus_chunks, corpus_pages, domain_catalog
from ppl_assets.estimation import assets as estimation
from ppl_assets.filtering.assets import page_filter, selected_pages, selection_within_bounds
from ppl_assets.likelihood.assets import domain_logliks
from ppl_assets.mixture.assets import pretraining_mixture
from ppl_assets.orchestration.checks import models_are_current
from ppl_assets.orchestration.imported_partitions import imported_partitions
from ppl_assets.orchestration.publication import cost_ledger, warehouse_file
from ppl_assets.orchestration.sensors import stale_assets_sensor
from ppl_assets.orchestration.step import WorkspaceResource
from ppl_assets.pilot.assets import pilot_comparison, preregistration
from ppl_assets.planning.assets import next_measurements
from ppl_assets.registry.assets import imported_bpb, imported_scores, model_registry
from ppl_assets.report.assets import selection_certificates, selection_report

ASSETS = [
    imported_bpb,
    imported_scores,
    domain_catalog,
    corpus_pages,
    corpus_chunks,
    benchmark_tasks,
    model_registry,
    domain_logliks,
    estimation.benchmark_errors,
    estimation.correlation_estimates,
    estimation.signal_gate,
    estimation.rank_prediction,
    estimation.domain_audits,
    pretraining_mixture,
    page_filter,
    selected_pages,
    selection_certificates,
    next_measurements,
    preregistration,
    pilot_comparison,
    cost_ledger,
    warehouse_file,
    selection_report,
]

CHECKS = [models_are_current, selection_within_bounds]

JOBS = [imported_partitions]

defs = dg.Definitions(
    assets=ASSETS,
    asset_checks=CHECKS,
    jobs=JOBS,
    sensors=[stale_assets_sensor("keep_current", ASSETS)],
    resources={"workspace": WorkspaceResource()},
    executor=dg.in_process_executor,
)
