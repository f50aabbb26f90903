"""Assets of the registry room: what was imported, and which models there are."""

import dagster as dg
import polars as pl

from ppl_assets.orchestration.instance import sync_partitions
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options
from ppl_assets.registry import imports
from ppl_assets.registry.lineage import LINEAGE
from ppl_assets.registry.register import register


@dg.asset(**asset_options("imported_bpb", group="registry", kinds={"polars"}))
def imported_bpb(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """Losses computed elsewhere, by model and domain."""
    step = Step(context, workspace)
    return step.publish({"imported_bpb": imports.imported_bpb(step.workspace.study, step.workspace.settings)})


@dg.asset(**asset_options("imported_scores", group="registry", kinds={"polars"}))
def imported_scores(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """Benchmark scores computed elsewhere, by model, task and metric."""
    step = Step(context, workspace)
    return step.publish({"imported_scores": imports.imported_scores(step.workspace.study, step.workspace.settings)})


@dg.asset(
    **asset_options("model_registry", group="registry", kinds={"polars"}),
    deps=[
        dg.AssetDep("model_zoo", partition_mapping=dg.AllPartitionMapping()),
        "imported_bpb",
        "imported_scores",
    ],
)
def model_registry(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """Every model of the study with its lineage; the ready ones are the partitions of what is computed per model."""
    step = Step(context, workspace)
    opened = step.workspace
    stored = [run for run in opened.runs() if opened.lake.exists("zoo_checkpoints", run)]
    imported = pl.concat(
        opened.table(table).select(LINEAGE).with_columns(stated_by=pl.lit(table))
        for table in ("imported_bpb", "imported_scores")
    )
    models = register(
        opened.study,
        checkpoints=opened.lake.read_partitions("zoo_checkpoints", stored),
        imported=imported,
        cache=opened.settings.digests,
    )
    absent = sorted(set(opened.runs()) - set(stored))
    # Before the new rows stand: a run that is killed in between does so again.
    replaced = opened.retire_replaced_models(models)
    result = step.publish({"models": models}, metadata={"runs missing": absent})
    context.log.info(f"at other weights, computed anew: {', '.join(replaced) or 'no model'}")
    context.log.info(f"retired: {', '.join(opened.retire_absent_models()) or 'no model'}")
    sync_partitions(context.instance, opened)
    return result
