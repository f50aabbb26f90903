"""What is published from all tables together: the cost ledger and the one DuckDB file."""

import dagster as dg
import polars as pl

from ppl_assets.orchestration.provenance import RECIPES, partitions
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Prices
from ppl_assets.warehouse import publish

_SECONDS_PER_HOUR = 3600


@dg.asset(
    **asset_options("cost_ledger", group="publication", kinds={"polars"}),
    deps=[
        "pretraining_mixture",
        "selected_pages",
        "pilot_comparison",
        "rank_prediction",
        "selection_certificates",
        "next_measurements",
        "corpus_chunks",
        "benchmark_tasks",
        dg.AssetDep("model_zoo", partition_mapping=dg.AllPartitionMapping()),
    ],
)
def cost_ledger(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """What each asset and partition cost when last computed: wall and device time, memory, tokens, FLOPs, money."""
    step = Step(context, workspace)
    return step.publish({"cost_ledger": ledger_rows(step.workspace)})


@dg.asset(
    **asset_options("warehouse_file", group="publication", kinds={"duckdb"}),
    deps=["cost_ledger"],
    pool="duckdb_writer",
)
def warehouse_file(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """One DuckDB file with every table down to domain level, for people and tools to open read-only."""
    step = Step(context, workspace)
    opened = step.workspace
    path = opened.settings.warehouse_file
    counts = publish(opened.lake, path, partitions=published_partitions(opened))
    return step.publish_file(path, metadata={f"rows/{table}": count for table, count in counts.items()})


def published_partitions(workspace: Workspace) -> dict[str, list[str]]:
    """The parts of partitioned tables that count: registered models, and runs of the study."""
    by_model = {name: workspace.present(name) for name, table in TABLES.items() if table.partition == "slug"}
    shards = workspace.lake.partitions("selected_pages")
    by_arm = {name: workspace.piloted(name) for name, table in TABLES.items() if table.partition == "arm"}
    return by_model | by_arm | {"zoo_checkpoints": workspace.runs(), "selected_pages": shards}


def ledger_rows(workspace: Workspace) -> pl.DataFrame:
    """Rows of ``cost_ledger`` from the footers of what there is; the ledger does not count itself."""
    rows = []
    for asset, recipe in RECIPES.items():
        if asset == "cost_ledger" or recipe.tables == ("artifacts",) or not recipe.applies(workspace):
            continue
        for partition in partitions(workspace, asset):
            table, part = recipe.parts(partition)[0]
            footer = workspace.lake.footer(table, part)
            if footer is not None:
                rows.append(
                    {"asset": asset, "partition": partition or "", **_priced(footer.cost, workspace.study.prices)}
                )
    return pl.DataFrame(rows, schema=TABLES["cost_ledger"].polars_schema)


def _priced(cost: dict[str, object], prices: Prices) -> dict[str, object]:
    per_hour = prices.per_hour(str(cost["device"]))
    seconds = float(str(cost["seconds"]))
    return {**cost, "cost": seconds / _SECONDS_PER_HOUR * per_hour if per_hour else None}
