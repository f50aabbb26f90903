"""What the choice cost, what it would cost otherwise, and what it costs to go on: the ledger, counted and compared.

Other ways to choose are compared by floating-point operations, which no machine changes: 6 per parameter and token of
training (Kaplan et al., arXiv 2001.08361). Hours are those operations at the rate that this study's own models were run
at, where the ledger knows it; money is hours at the study's price.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ppl_assets.report.data import ReportData

_TRAINING = 6
# Assets that are run once for every model, and those of them that a new domain is part of.
_PER_MODEL, _PER_DOMAIN = ("chunk_logliks", "benchmark_scores"), "chunk_logliks"
_PILOT = "pilot_runs"
MEASUREMENTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to choose, or one step further: what it takes; None where it is not known."""

    name: str
    flops: float | None
    hours: float | None
    cost: float | None
    times: float | None = None
    """Its operations over those of this choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What the section of costs shows."""

    by_asset: list[dict[str, Any]]
    ways: list[Way]
    steps: list[Way]
    measurements: Mapping[str, list[dict[str, Any]]]
    currency: str
    priced: bool


def costs(data: ReportData) -> Costs | None:
    """The view of the section; None where nothing was ever run."""
    ledger = data.cost_ledger
    if ledger.is_empty():
        return None
    # A pilot tests the choice: it is no part of making it.
    spent = float(ledger.filter(pl.col("asset") != _PILOT)["flops"].fill_null(0.0).sum())
    return Costs(
        by_asset=_by_asset(ledger),
        ways=_ways(data, spent),
        steps=_steps(data),
        measurements=_measurements(data),
        currency=data.prices.currency,
        priced=bool(data.prices.cpu_hour or data.prices.gpu_hour),
    )


def _by_asset(ledger: pl.DataFrame) -> list[dict[str, Any]]:
    """Sums over partitions, the largest peak; the assets that took longest first."""
    sums = [_sum(name) for name in ("device_seconds", "tokens", "flops", "cost")]
    wall, peak = pl.col("seconds").sum(), pl.col("peak_bytes").max()
    return (
        ledger.group_by("asset")
        .agg(pl.len().alias("partitions"), wall, peak, *sums)
        .sort("seconds", "asset", descending=[True, False])
        .to_dicts()
    )


def _sum(name: str) -> pl.Expr:
    """A sum that is unknown, not 0, where nothing is known."""
    return pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name)


def _ways(data: ReportData, spent: float) -> list[Way]:
    other, targets = data.alternatives, len(data.targets)
    proxies = float(_TRAINING * other.proxy_models * other.proxy_params * other.proxy_tokens)
    pilots = float(_TRAINING * targets * other.pilot_runs * other.pilot_params * other.pilot_tokens)
    ran = float(data.cost_ledger.filter(pl.col("asset") == _PILOT)["flops"].fill_null(0.0).sum())
    named = (
        ("this choice, all models and targets", spent or None),
        (f"proxies, as RegMix: {other.proxy_models:,} models, benchmarks not counted", proxies),
        (f"pilots alone: {other.pilot_runs} runs for each of {targets} targets", pilots),
        *([("the pilot runs that tested this choice", ran)] if ran else []),
    )
    return [_way(data, name, flops, times=flops / spent if flops and spent else None) for name, flops in named]


def _steps(data: ReportData) -> list[Way]:
    """One more model, in the mean over those at hand; one more domain, for all models."""
    ledger = data.cost_ledger
    models = ledger.filter(pl.col("asset").is_in(_PER_MODEL), pl.col("flops") > 0)
    scored = ledger.filter(pl.col("asset") == _PER_DOMAIN, pl.col("flops") > 0)
    if scored.is_empty():
        return []
    domains = data.domain_logliks.filter(pl.col("chunks") > 0)["domain"].n_unique()
    return [
        _way(data, "one more model like those at hand", float(models["flops"].sum()) / scored.height),
        _way(
            data, "one more domain like those at hand, for all models", float(scored["flops"].sum()) / max(domains, 1)
        ),
    ]


def _measurements(data: ReportData) -> dict[str, list[dict[str, Any]]]:
    """The best next measurements of each target, with hours and money."""
    rows = data.next_measurements.sort("target", "place")
    return {
        str(target): [row | {"hours": _hours(data, row["flops"])} for row in own.head(MEASUREMENTS).to_dicts()]
        for (target,), own in rows.group_by("target", maintain_order=True)
    }


def _way(data: ReportData, name: str, flops: float | None, *, times: float | None = None) -> Way:
    hours = _hours(data, flops)
    device = data.cost_ledger.filter(pl.col("flops") > 0)["device"]
    price = data.prices.gpu_hour if "cuda" in set(device) else data.prices.cpu_hour
    return Way(name=name, flops=flops, hours=hours, cost=hours * price if hours and price else None, times=times)


def _hours(data: ReportData, flops: float | None) -> float | None:
    """Hours of the device at the rate of what was run; None where nothing was."""
    # A part from before device seconds were kept has its wall time.
    seconds = pl.coalesce("device_seconds", "seconds")
    known = data.cost_ledger.filter(pl.col("flops") > 0, seconds > 0).select("flops", seconds.alias("seconds"))
    if flops is None or known.is_empty():
        return None
    rate = float(known["flops"].sum()) / float(known["seconds"].sum())
    return flops / rate / 3600
