"""One run for all imported models: their partitions hold no work, only rows that were imported as a whole.

The assets ``domain_logliks`` and ``benchmark_scores`` materialize an imported model as well; ninety runs of a second
each would only be slower.
"""

from collections.abc import Callable
from functools import partial

import dagster as dg
import polars as pl

from ppl_assets.benchmarks.tables import imported_score_rows
from ppl_assets.likelihood.tables import domain_rows
from ppl_assets.orchestration.provenance import fingerprint
from ppl_assets.orchestration.step import WorkspaceResource
from ppl_assets.warehouse import Lake

_ROWS: dict[str, Callable[[Lake, str], pl.DataFrame]] = {
    "domain_logliks": partial(domain_rows, scored=False),
    "benchmark_scores": imported_score_rows,
}


class ImportedPartitions(dg.Config):
    """Which asset's partitions to fill."""

    asset: str
    slugs: list[str]


@dg.op
def store_imported_partitions(
    context: dg.OpExecutionContext, config: ImportedPartitions, workspace: WorkspaceResource
) -> None:
    """Write the partitions of imported models and record each as a materialization."""
    opened = workspace.open()
    for slug in config.slugs:
        rows = _ROWS[config.asset](opened.lake, slug)
        stated = fingerprint(opened, config.asset, slug)
        cost = {"run": context.run.run_id, "seconds": 0.0, "device": "cpu", "tokens": None, "flops": None}
        footer = opened.lake.write(config.asset, rows, partition=slug, fingerprint=stated, cost=cost)
        context.log_event(
            dg.AssetMaterialization(
                config.asset,
                partition=slug,
                metadata={"dagster/row_count": rows.height, "fingerprint": stated},
                tags={"dagster/data_version": footer.data_version},
            )
        )


@dg.job
def imported_partitions() -> None:
    """Fill the partitions of imported models."""
    store_imported_partitions()
