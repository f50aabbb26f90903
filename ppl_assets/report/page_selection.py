"""What the report says of pages: how well the filter tells them apart, and what every way to choose selects."""

from typing import Any

import polars as pl

from ppl_assets.report.data import ReportData

# Metrics of the filter that decide whether it can be trusted with the choice, in the order of the page.
FILTER_METRICS = {
    "roc_auc": "ROC-AUC",
    "precision_at_budget": "precision at the budget",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "calibration_error": "calibration error",
}


def page_selection_view(data: ReportData) -> list[dict[str, Any]] | None:
    """Per target: the filter's metrics on held-out sites, and one row per arm with its shifts; None without any."""
    if data.selections.is_empty():
        return None
    return [_target(data, target) for target in data.selections["target"].unique(maintain_order=True)]


def _target(data: ReportData, target: str) -> dict[str, Any]:
    own = pl.col("target") == target
    held_out = data.filter_metrics.filter(own & (pl.col("slice") == "all"))
    by_metric = {row["metric"]: row for row in held_out.to_dicts()}
    shifted = data.selection_shifts.filter(own)
    return {
        "target": target,
        "metrics": [
            {**by_metric[metric], "word": word} for metric, word in FILTER_METRICS.items() if metric in by_metric
        ],
        "measures": shifted["measure"].unique(maintain_order=True).to_list(),
        "arms": [
            {**row, "shifts": shifted.filter(pl.col("arm") == row["arm"]).to_dicts()}
            for row in data.selections.filter(own).to_dicts()
        ],
    }
