"""Assets of the filtering room: the page filters, and the pages that they and their rivals select."""

from time import monotonic

import dagster as dg
import polars as pl

from ppl_assets.filtering.eligibility import eligible_split
from ppl_assets.filtering.tables import Evidence, filter_tables
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options, preview
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.progress import Progress


def evidence(workspace: Workspace) -> Evidence:
    """The tables that labels come from."""
    study = workspace.study
    estimates = workspace.table("correlation_estimates")
    return Evidence(
        pages=workspace.lake.read("pages", eligible_split(study)),
        domains=workspace.table("domains"),
        mixture=workspace.table("pretraining_mixture"),
        estimates=estimates.filter(pl.col("estimator") == study.estimation.estimator),
    )


@dg.asset(
    **asset_options("page_filter", group="filtering", kinds={"fasttext"}), deps=["pretraining_mixture", "corpus_pages"]
)
def page_filter(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """The page filter of each target, a fastText classifier with its card, and how it does on sites it has not seen."""
    step = Step(context, workspace)
    report, began = step.report(), monotonic()
    found = filter_tables(
        step.workspace.study,
        evidence(step.workspace),
        step.workspace.settings.filters,
        trained=lambda done, total: report(
            Progress(done=done, total=total, unit="classifiers", seconds=monotonic() - began)
        ),
    )
    overall = found["filter_metrics"].filter(pl.col("slice") == "all")
    return step.publish(
        found,
        metadata={
            "held-out metrics": dg.MetadataValue.md(preview(overall.drop("slice"))),
            "deciding n-grams": dg.MetadataValue.md(preview(found["filter_ngrams"])),
            "folder": dg.MetadataValue.path(step.workspace.settings.filters),
        },
    )
