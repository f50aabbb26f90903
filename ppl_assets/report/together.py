"""What the report says of mixtures as a whole: what each brings to each target, what limits it, what is new in it."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from ppl_assets.report.data import ReportData

# More than people read; all of them are in the published tables.
PRICES, CHANGES, DOMAINS = 5, 10, 8

HOW = {
    "target": "best for the target alone",
    "mean": "best by the mean estimate",
    "max_min": "best for the target served worst",
    "pareto": "a point of the front",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureView:
    """What the template shows of one mixture as a whole."""

    name: str
    kind: str
    how: str
    used: bool
    gains: list[dict[str, Any]]
    chosen: list[dict[str, Any]]
    """The largest domains; of a combined mixture only, a target's own stand elsewhere."""

    prices: list[dict[str, Any]]
    more_prices: int
    changes: list[dict[str, Any]]
    more_changes: int
    compared: bool
    """Whether there was a mixture before."""

    churn: float
    """Share of the mixture that is elsewhere than before."""


def mixture_views(data: ReportData) -> list[MixtureView]:
    """All mixtures, those of single targets first, the points of the front last."""
    kinds = data.pretraining_mixture.select("target", "kind", "used").unique(maintain_order=True)
    order = {kind: place for place, kind in enumerate(HOW)}
    return [_view(data, *row) for row in sorted(kinds.iter_rows(), key=lambda row: order[row[1]])]


def _view(data: ReportData, name: str, kind: str, used: bool) -> MixtureView:
    own = pl.col("target") == name
    prices = data.shadow_prices.filter(own).sort("price", "rule", descending=[True, False])
    rows = data.mixture_changes.filter(own).with_columns(
        by=(pl.col("weight_after") - pl.col("weight_before").fill_null(0.0)).abs()
    )
    changes = rows.filter(pl.col("why").is_not_null()).sort("by", "domain", descending=[True, False])
    weights = data.pretraining_mixture.filter(own, pl.col("weight") > 0)
    combined = kind in ("mean", "max_min")
    return MixtureView(
        name=name,
        kind=kind,
        how=HOW[kind],
        used=used,
        gains=data.mixture_gains.filter(pl.col("mixture") == name).to_dicts(),
        chosen=weights.sort("weight", "domain", descending=[True, False]).head(DOMAINS * combined).to_dicts(),
        prices=prices.head(PRICES).to_dicts(),
        more_prices=max(prices.height - PRICES, 0),
        changes=changes.head(CHANGES).to_dicts(),
        more_changes=max(changes.height - CHANGES, 0),
        compared=rows["change"].count() > 0,
        churn=float(rows["by"].sum()) / 2,
    )
