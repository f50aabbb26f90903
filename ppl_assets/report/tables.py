"""The tables that the report shows, read from the lake, with where they come from."""

from functools import cache
from importlib.metadata import version
from typing import Any

import ppl_assets
from ppl_assets.estimation.audit import page_estimates
from ppl_assets.estimation.evidence import loss_evidence
from ppl_assets.likelihood.page_losses import NO_PAGES, PageLosses, page_losses
from ppl_assets.mixture.changes import mixture_before
from ppl_assets.mixture.counterfactuals import Grounds
from ppl_assets.orchestration.provenance import CERTIFIED_TABLES, RECIPES, partitions, pilot_is_current
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.report.data import COLUMNS, OPTIONAL, ReportData
from ppl_assets.report.explanation import Sources
from ppl_assets.schema import TABLES

_LIBRARIES = ("dagster", "duckdb", "polars", "numpy", "scipy", "torch", "transformers", "tokenizers", "lm-eval")


def report_data(workspace: Workspace) -> ReportData:
    """Every table of the report as it stands in the lake."""
    frames: dict[str, Any] = {
        name: workspace.by_model(name) if TABLES[name].partition == "slug" else workspace.table(name)
        for name in (*COLUMNS, *OPTIONAL)
    }
    if not pilot_is_current(workspace):
        # What it measured is about another choice: shown when it has run again.
        frames |= {name: TABLES[name].polars_schema.to_frame() for name in ("pilot_comparison", "pilot_harm")}
    study = workspace.study
    return ReportData(**frames, provenance=provenance(workspace), prices=study.prices, alternatives=study.alternatives)


def grounds(workspace: Workspace) -> Grounds:
    """What the mixture in the lake was decided from, to decide again with something changed."""
    return Grounds(
        study=workspace.study,
        models=workspace.models(),
        domains=workspace.table("domains"),
        domain_logliks=workspace.by_model("domain_logliks"),
        pages=cache(lambda: _pages(workspace)),
        benchmark_scores=workspace.by_model("benchmark_scores"),
        correlation_estimates=workspace.table("correlation_estimates"),
        signal_gate=workspace.table("signal_gate"),
        before=mixture_before(workspace.table("mixture_changes"), same_inputs=True),
    )


def _pages(workspace: Workspace) -> PageLosses:
    return page_losses(workspace.lake, workspace.present("chunk_logliks")) if workspace.study.corpus else NO_PAGES


def sources(workspace: Workspace) -> Sources:
    """Where an explanation looks; pages are scored together only when one is asked for."""
    decided = grounds(workspace)

    def estimates(target: str) -> dict[str, float]:
        return page_estimates(
            loss_evidence(decided.models, decided.domains, decided.domain_logliks),
            workspace.table("benchmark_errors"),
            target,
            pages=decided.pages(),
            estimator=workspace.study.estimation.estimator,
        )

    return Sources(
        data=report_data(workspace),
        grounds=decided,
        page_sample=workspace.table("page_sample"),
        page_rejections=workspace.table("page_rejections"),
        near_duplicates=workspace.table("near_duplicates"),
        retired=workspace.retired,
        page_estimates=estimates,
    )


def content_provenance(workspace: Workspace) -> dict[str, Any]:
    """Study, versions and the content of every table that a certificate is from: the same whoever computes it."""
    footers = {name: workspace.lake.footer(name) for name in CERTIFIED_TABLES}
    return {
        "study": workspace.study.name,
        "seed": workspace.study.seed,
        "ppl_assets": ppl_assets.__version__,
        "tables": {name: footer.data_version for name, footer in footers.items() if footer},
    }


def provenance(workspace: Workspace) -> dict[str, Any]:
    """Study, versions, and the fingerprint and run behind every table."""
    return {
        "study": {"name": workspace.study.name, "seed": workspace.study.seed},
        "versions": {"ppl_assets": ppl_assets.__version__} | {name: version(name) for name in _LIBRARIES},
        "fingerprints": {asset: _origin(workspace, asset) for asset in RECIPES if _shown(workspace, asset)},
    }


def _shown(workspace: Workspace, asset: str) -> bool:
    recipe = RECIPES[asset]
    return recipe.tables != ("artifacts",) and recipe.applies(workspace)


def _origin(workspace: Workspace, asset: str) -> dict[str, str]:
    """Fingerprint and Dagster run of each partition that is there; of an asset without partitions, of its one part."""
    origins = {}
    for partition in partitions(workspace, asset):
        footer = workspace.lake.footer(*RECIPES[asset].parts(partition)[0])
        if footer is not None:
            origins[partition or "fingerprint"] = f"{footer.fingerprint} (run {footer.cost.get('run', 'unknown')})"
    return origins
