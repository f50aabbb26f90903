"""The tables that the report shows, read from the lake, with where they come from."""

from importlib.metadata import version
from typing import Any

import ppl_assets
from ppl_assets.orchestration.provenance import RECIPES, partitions
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.report.data import COLUMNS, OPTIONAL, ReportData
from ppl_assets.schema import TABLES

_LIBRARIES = ("dagster", "duckdb", "polars", "numpy", "scipy", "torch", "transformers", "tokenizers", "lm-eval")


def report_data(workspace: Workspace) -> ReportData:
    """Every table of the report as it stands in the lake."""
    frames: dict[str, Any] = {
        name: workspace.by_model(name) if TABLES[name].partition == "slug" else workspace.table(name)
        for name in (*COLUMNS, *OPTIONAL)
    }
    return ReportData(**frames, provenance=provenance(workspace))


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
