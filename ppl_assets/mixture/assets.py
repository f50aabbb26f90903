"""Asset of the mixture room."""

import dagster as dg
import polars as pl

from ppl_assets.mixture.changes import mixture_before
from ppl_assets.mixture.tables import mixture_tables
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options, preview
from ppl_assets.schema import TABLES


@dg.asset(
    **asset_options("pretraining_mixture", group="mixture", kinds={"numpy"}),
    deps=["correlation_estimates", "signal_gate", "domain_catalog"],
)
def pretraining_mixture(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """How much of each domain to train on, for each target and for all together, within limits; why, at which price,
    and what is new since last time."""
    step = Step(context, workspace)
    opened = step.workspace
    written = opened.lake.footer("mixture_changes")
    before = mixture_before(
        opened.table("mixture_changes") if written else TABLES["mixture_changes"].polars_schema.to_frame(),
        same_inputs=written is not None and written.fingerprint == step.fingerprint,
    )
    tables = mixture_tables(
        opened.study,
        domains=opened.table("domains"),
        estimates=opened.table("correlation_estimates"),
        verdicts=opened.table("signal_gate"),
        before=before,
    )
    changed = tables["mixture_changes"].filter(pl.col("why").is_not_null())
    return step.publish(
        tables,
        metadata={
            "mixture to use": opened.study.used_mixture or "not stated (study field mixture.use)",
            "gains": dg.MetadataValue.md(preview(tables["mixture_gains"])),
            "shadow prices": dg.MetadataValue.md(preview(tables["shadow_prices"].sort("price", descending=True))),
            "changed domains": changed.height,
            "changes": dg.MetadataValue.md(preview(changed)),
        },
    )
