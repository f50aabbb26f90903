"""What the choice cost, what it would cost otherwise, and what it costs to go on: the ledger, counted and compared.

Other ways to choose are compared by floating-point operations, which no machine changes: 6 per parameter and token of
training (Kaplan et al., arXiv 2001.08361). Hours of what was run are the device seconds of the assets that ran it.
Hours of what was not are its operations at the rate that models of this choice were run at, where the ledger knows it;
those of its pilot, which are other models, tell nothing of that rate. Money is hours at the study's price.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from ppl_assets.report.data import ReportData

_TRAINING = 6
_SECONDS_PER_HOUR = 3600
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
    return Costs(
        by_asset=_by_asset(ledger),
        ways=_ways(data),
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


def _ways(data: ReportData) -> list[Way]:
    other, targets = data.alternatives, len(data.targets)
    proxies = float(_TRAINING * other.proxy_models * other.proxy_params * other.proxy_tokens)
    pilots = float(_TRAINING * targets * other.pilot_runs * other.pilot_params * other.pilot_tokens)
    choice = _taken(data, "this choice, all models and targets", _of_choice(data))
    tested = _taken(data, "the pilot runs that tested this choice", _run(data).filter(pl.col("asset") == _PILOT))
    ways = (
        choice,
        _way(data, f"proxies, as RegMix: {other.proxy_models:,} models, benchmarks not counted", proxies),
        _way(data, f"pilots alone: {other.pilot_runs} runs for each of {targets} targets", pilots),
        *([tested] if tested.flops else []),
    )
    spent = choice.flops
    return [replace(way, times=way.flops / spent if way.flops and spent else None) for way in ways]


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


def _way(data: ReportData, name: str, flops: float) -> Way:
    """What was not run, at the rate and price of what was."""
    hours = _hours(data, flops)
    price = data.prices.per_hour("cuda" if "cuda" in set(_of_choice(data)["device"]) else "cpu")
    return Way(name=name, flops=flops, hours=hours, cost=hours * price if hours and price else None)


def _taken(data: ReportData, name: str, rows: pl.DataFrame) -> Way:
    """What was run, by its own operations and seconds; unknown where nothing was."""
    if rows.is_empty():
        return Way(name=name, flops=None, hours=None, cost=None)
    by_device = dict(rows.group_by("device").agg(pl.sum("hours")).iter_rows())
    cost = math.fsum(hours * data.prices.per_hour(device) for device, hours in by_device.items())
    return Way(name=name, flops=float(rows["flops"].sum()), hours=float(rows["hours"].sum()), cost=cost or None)


def _hours(data: ReportData, flops: float) -> float | None:
    """Hours of the device at the rate of what the choice ran; None where it ran nothing."""
    known = _of_choice(data)
    return flops * float(known["hours"].sum()) / float(known["flops"].sum()) if known.height else None


def _of_choice(data: ReportData) -> pl.DataFrame:
    """What making the choice ran. A pilot tests the choice: it is no part of making it."""
    return _run(data).filter(pl.col("asset") != _PILOT)


def _run(data: ReportData) -> pl.DataFrame:
    """Rows of the ledger whose operations are known, with the `hours` of the device that they took."""
    # A part from before device seconds were kept has its wall time.
    hours = pl.coalesce("device_seconds", "seconds") / _SECONDS_PER_HOUR
    return data.cost_ledger.with_columns(hours=hours).filter(pl.col("flops") > 0, pl.col("hours") > 0)
