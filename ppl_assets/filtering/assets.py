"""Assets of the filtering room: the page filters, and the pages that they and their rivals select."""

from time import monotonic

import dagster as dg
import polars as pl

from ppl_assets.corpus import source_parts
from ppl_assets.filtering.eligibility import eligible_split
from ppl_assets.filtering.page_scores import Scoring, score_source
from ppl_assets.filtering.selected_texts import write_texts
from ppl_assets.filtering.selection import Tables, select_pages
from ppl_assets.filtering.tables import Evidence, filter_settings, filter_tables
from ppl_assets.filtering.text_scores import Samples, prepared_methods
from ppl_assets.orchestration.provenance import page_scoring
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options, preview
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.processes import available_cores, temporary_path
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


def scoring(workspace: Workspace) -> Scoring:
    """How pages are scored, with every method that reads text made ready."""
    study, lake, settings = workspace.study, workspace.lake, workspace.settings
    samples = Samples(
        filters=workspace.table("page_filters"),
        domains=workspace.table("domains"),
        pool=lake.read("pages", eligible_split(study)),
        benchmark=lake.read("pages", "benchmark"),
    )
    methods = prepared_methods(study, samples, settings.filters, settings.selection)
    identities = [(method.name, method.identity) for method in methods]
    return Scoring(
        study=study,
        lake=settings.lake,
        methods=methods,
        retired=workspace.retired,
        fingerprint=page_scoring(workspace, identities),
    )


def selection_tables(workspace: Workspace) -> Tables:
    """The tables that a selection rests on."""
    return Tables(
        domains=workspace.table("domains"),
        near_duplicates=workspace.table("near_duplicates"),
        mixture=workspace.table("pretraining_mixture"),
        losses=workspace.by_model("domain_logliks"),
    )


@dg.asset(
    **asset_options("selected_pages", group="filtering", kinds={"fasttext", "polars"}),
    deps=["page_filter", dg.AssetDep("domain_logliks", partition_mapping=dg.AllPartitionMapping())],
)
def selected_pages(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """The pages of the source that every arm selects for every target, within one token budget."""
    step = Step(context, workspace)
    opened, how = step.workspace, scoring(step.workspace)
    settings = opened.settings
    parts = source_parts(how.study, settings.digests)
    shards = score_source(how, parts, processes=available_cores(), progress=step.report())
    found = select_pages(
        how.study,
        opened.lake,
        shards,
        [method.name for method in how.methods],
        selection_tables(opened),
        scratch=temporary_path(settings.selection / "duplicates"),
        fingerprint=step.fingerprint,
    )
    if filter_settings(how.study).with_text:
        write_texts(how.study, opened.lake, settings.digests, settings.selection / "pages", retired=opened.retired)
    shifted = found["selection_shifts"].filter(pl.col("verdict") != "within")
    return step.publish(found, metadata={"beyond the study's bounds": dg.MetadataValue.md(preview(shifted))})


@dg.asset_check(asset="selected_pages", blocking=True)
def selection_within_bounds(workspace: WorkspaceResource) -> dg.AssetCheckResult:
    """Whether selections shift language, group, length, concentration or repetition further than the study allows."""
    rows = workspace.open().table("selection_shifts")
    beyond = rows.filter(pl.col("verdict") != "within")
    blocked = beyond.filter(pl.col("verdict") == "block")
    return dg.AssetCheckResult(
        passed=beyond.is_empty(),
        severity=dg.AssetCheckSeverity.ERROR if blocked.height else dg.AssetCheckSeverity.WARN,
        description=f"{beyond.height} of {rows.height} measures are beyond a bound, {blocked.height} block.",
        metadata={"beyond": dg.MetadataValue.md(preview(beyond))},
    )
