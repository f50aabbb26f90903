"""What the report says of a pilot: every arm with its interval, what it harms elsewhere, what a point costs."""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from ppl_assets.report.charts import pilot_chart
from ppl_assets.report.data import ReportData

# Share of false alarms among the domains that are called harmed.
HARM_Q = 0.1
HARMED_SHOWN = 3


def pilot_view(data: ReportData) -> dict[str, Any] | None:
    """The plan, and one part per target and size; None without a pilot."""
    comparison = data.pilot_comparison
    if comparison.is_empty():
        return None
    plan = data.preregistration.filter(pl.col("pilot") == comparison["pilot"][0]).tail(1).row(0, named=True)
    decided = comparison.filter("decides").sort("target", "size")
    parts = [_part(data, *key) for key in decided.select("size", "target", "measure").iter_rows()]
    return {"plan": plan, "beginning": beginning(json.loads(plan["plan"])["sizes"]), "parts": parts}


def beginning(sizes: Mapping[str, Mapping[str, Any]]) -> str:
    """What models of the sizes of a plan begin as, in words that follow "trained"."""
    found: dict[str, list[str]] = {}
    for name, size in sizes.items():
        how = "from scratch" if size["start"] is None else f"further from the model {size['start']}"
        found.setdefault(how, []).append(name)
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{how} (size {' and '.join(names)})" for how, names in found.items())


def pilot_answers(data: ReportData, target: str) -> list[dict[str, Any]]:
    """The rows that decide about a target, one per size; none of what has not been run."""
    decided = data.pilot_comparison.filter("decides", pl.col("target") == target, pl.col("gain").is_not_null())
    return decided.sort("size").to_dicts()


def _part(data: ReportData, size: str, target: str, measure: str) -> dict[str, Any]:
    own = data.pilot_comparison.filter(pl.col("size") == size, pl.col("target") == target)
    against = own.filter(pl.col("measure") == measure)
    uniform = against.filter(pl.col("role") == "uniform").sort("gain", descending=True, nulls_last=True)
    best = {row["arm"]: row for row in against.filter(pl.col("role") == "best_baseline").to_dicts()}
    held_out = own.filter(pl.col("role") == "uniform", pl.col("measure") == "held_out/bpb")
    overall = {row["arm"]: row for row in held_out.to_dicts()}
    harm = data.pilot_harm.filter(pl.col("size") == size, pl.col("target") == target)
    measured = [row for row in uniform.to_dicts() if row["gain"] is not None]
    return {
        "size": size,
        "target": target,
        "measure": measure,
        "seeds": uniform["seeds"].max(),
        "arms": [
            {
                **row,
                "best": best.get(row["arm"]),
                "held_out": overall.get(row["arm"]),
                **_harmed(harm.filter(pl.col("arm") == row["arm"])),
            }
            for row in uniform.to_dicts()
        ],
    } | ({"chart": pilot_chart(measured, measure)} if measured else {})


def _harmed(domains: pl.DataFrame) -> dict[str, Any]:
    """How many domains are modelled worse than by uniform beyond chance, and the worst of them."""
    harmed = domains.filter(pl.col("gain") < 0, pl.col("q_value") < HARM_Q).sort("gain")
    return {"domains": domains.height, "harmed": harmed.height, "worst": harmed.head(HARMED_SHOWN).to_dicts()}
