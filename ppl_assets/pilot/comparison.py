"""The pilot's tables: every arm against `uniform` and against the best baseline, whatever they show.

A gain is the share, in per cent, by which an arm's error lies below the other's (`statistics.relative_gains`); one per
cent is a point. The best baseline is the one with the lowest error among all arms that are neither ours nor controls,
chosen on the same runs: it looks a little better than it is, which is to our disadvantage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.estimation.targets import task_errors
from ppl_assets.pilot import statistics
from ppl_assets.schema import TABLES
from ppl_assets.study import Study
from ppl_assets.study.schema import Pilot

REFERENCE, OURS = "uniform", ("ours", "ours_domains")
CONTROLS = ("positive", "negative")
HELD_OUT = "held_out/bpb"
# Means over a target's tasks, by what the study calls them.
_MEANS = ("error", "bpb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an arm's runs took, by one run: seconds with their measurement, and money where the study states prices."""

    seconds: float
    money: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Errors of one size and target: seeds x tasks of every arm that was run; lower is better."""

    size: str
    target: str
    errors: Mapping[str, dict[str, np.ndarray]]
    """By arm and measure, arrays [S, T] with the tasks that the measure goes over."""
    values: Mapping[str, dict[str, float]]
    """By arm and metric, means over seeds in the metric's own unit."""
    flops: float


def comparison_tables(
    study: Study, runs: pl.DataFrame, domains: pl.DataFrame, *, pilot: str, costs: Mapping[str, Cost]
) -> dict[str, pl.DataFrame]:
    """Rows of ``pilot_comparison``, ``pilot_ranks``, ``pilot_trend`` and ``pilot_harm``.

    Args:
        runs, domains: tables ``pilot_runs`` and ``pilot_domains`` of this plan; arms may be missing.
        pilot: hash of the plan.
        costs: by arm.

    Raises:
        InputError: `uniform` was not run, or an arm lacks a seed or metric of the plan.
    """
    settings = study.pilot
    assert settings is not None, "the study states no pilot"
    if REFERENCE not in set(runs["arm"]):
        raise InputError(f"pilot: found no runs of {REFERENCE!r}, with which the other arms are compared; run it first")
    measured = [_measured(study, runs, size, target) for size in settings.sizes for target in study.pilot_targets]
    rows = [row for each in measured for row in _rows(study, each, costs)]
    harm = [row for each in measured for row in _harm(settings, domains, each)]
    frames = {
        "pilot_comparison": [{**row, "pilot": pilot} for row in rows],
        "pilot_ranks": _ranks(settings, measured),
        "pilot_trend": _trend(settings, measured),
        "pilot_harm": harm,
    }
    return {name: pl.DataFrame(found, schema=TABLES[name].polars_schema) for name, found in frames.items()}


def decisions(comparison: pl.DataFrame) -> list[str]:
    """What the preregistered rule says of each size and target, in sentences."""
    return [
        f"{row['target']}, size {row['size']}: ours is {_IN_WORDS[row['verdict']]}"
        + (f" (gain {row['gain']:.2f} %, {row['ci_low']:.2f} to {row['ci_high']:.2f})" if row["ci_low"] else "")
        for row in comparison.filter("decides").sort("target", "size").to_dicts()
    ]


_IN_WORDS = {
    "better": "better than uniform",
    "worse": "worse than uniform",
    "no difference shown": "not shown to differ from uniform by as much as the rule asks for",
    "one seed": "not judged: one seed has no interval",
    "no runs": "not judged: it has no runs",
}


def _measured(study: Study, runs: pl.DataFrame, size: str, target: str) -> Measured:
    assert study.pilot is not None
    own = runs.filter((pl.col("size") == size) & (pl.col("target") == target))
    tasks = study.targets[target].tasks
    errors: dict[str, dict[str, np.ndarray]] = {}
    values: dict[str, dict[str, float]] = {}
    for arm in sorted(set(own["arm"])):
        rows = own.filter(pl.col("arm") == arm)
        names = [f"{task.task}/{task.metric}" for task in tasks]
        found = {name: _by_seed(rows, name, study.pilot.seeds) for name in [*names, HELD_OUT]}
        of_task = {
            name: task_errors(found[name], task.kind, task=name) for name, task in zip(names, tasks, strict=True)
        }
        of_bpb = [of_task[name] for name, task in zip(names, tasks, strict=True) if task.kind == "bpb"]
        errors[arm] = {
            "error": np.column_stack(list(of_task.values())),
            **({"bpb": np.column_stack(of_bpb)} if of_bpb else {}),
            **{name: error[:, None] for name, error in of_task.items()},
            HELD_OUT: found[HELD_OUT][:, None],
        }
        values[arm] = {name: float(value.mean()) for name, value in found.items()}
    flops = own.filter(pl.col("metric") == "training/flops")["value"].mean()
    return Measured(size=size, target=target, errors=errors, values=values, flops=float(str(flops)))


def _by_seed(rows: pl.DataFrame, metric: str, seeds: Sequence[int]) -> np.ndarray:
    known = dict(rows.filter(pl.col("metric") == metric).select("seed", "value").iter_rows())
    missing = [seed for seed in seeds if seed not in known]
    if missing:
        arm, target = rows.select("arm", "target").row(0)
        raise InputError(f"pilot, arm {arm!r}, target {target!r}: found no {metric} of seed {missing[0]}; run it again")
    return np.array([known[seed] for seed in seeds])


def _rows(study: Study, measured: Measured, costs: Mapping[str, Cost]) -> list[dict[str, Any]]:
    settings = study.pilot
    assert settings is not None
    best = _best_baseline(settings, measured)
    rows = []
    for arm in study.pilot_arms:
        if arm not in measured.errors:
            rows.append(_row(settings, measured, arm, settings.decide_on, "uniform", None, costs))
            continue
        for role, versus in (("uniform", REFERENCE), ("best_baseline", best)):
            if versus not in (None, arm):
                for measure in measured.errors[arm]:
                    rows.append(_row(settings, measured, arm, measure, role, versus, costs))
    return rows


def _best_baseline(settings: Pilot, measured: Measured) -> str | None:
    rivals = [arm for arm in measured.errors if arm not in OURS + CONTROLS]
    scale = measured.errors[REFERENCE][settings.decide_on].mean(axis=0)
    errors = {arm: float((measured.errors[arm][settings.decide_on].mean(axis=0) / scale).mean()) for arm in rivals}
    return min(errors, key=lambda arm: (errors[arm], arm), default=None)


def _row(
    settings: Pilot,
    measured: Measured,
    arm: str,
    measure: str,
    role: str,
    versus: str | None,
    costs: Mapping[str, Cost],
) -> dict[str, Any]:
    """One row of ``pilot_comparison``; without `versus` that of an arm that was not run."""
    row: dict[str, Any] = {
        "size": measured.size,
        "target": measured.target,
        "arm": arm,
        "measure": measure,
        "role": role,
        "versus": versus,
        "seeds": 0,
        "verdict": "no runs",
        "decides": arm == "ours" and role == "uniform" and measure == settings.decide_on,
    }
    if versus is None:
        return row
    gain_ST = statistics.relative_gains(measured.errors[versus][measure], measured.errors[arm][measure])
    gain_S = gain_ST.mean(axis=1)
    interval = statistics.paired_interval(gain_S, level=settings.level)
    over_tasks = statistics.crossed_interval(gain_ST, level=settings.level)
    gained = interval.mean if interval.mean > 0 else None
    cost = costs.get(arm)
    return row | {
        "value": measured.values[arm].get(measure),
        "versus_value": measured.values[versus].get(measure),
        "seeds": len(gain_S),
        "gain": interval.mean,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "p_value": interval.p_value,
        "tasks_ci_low": over_tasks.low,
        "tasks_ci_high": over_tasks.high,
        "seeds_needed": statistics.seeds_needed(gain_S, level=settings.level, power=settings.power),
        "flops_per_point": measured.flops / gained if gained else None,
        "seconds_per_point": cost.seconds / gained if gained and cost else None,
        "cost_per_point": cost.money / gained if gained and cost and cost.money is not None else None,
        "verdict": _verdict(interval, settings.minimum_gain),
    }


def _verdict(interval: statistics.Interval, minimum_gain: float) -> str:
    if interval.low is None or interval.high is None:
        return "one seed"
    if interval.low > minimum_gain:
        return "better"
    return "worse" if interval.high < 0 else "no difference shown"


def _ranks(settings: Pilot, measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Average rank of each arm over the targets of a size; of arms that were run for all of them."""
    rows = []
    for size in settings.sizes:
        own = [each for each in measured if each.size == size]
        arms = [arm for arm in own[0].errors if arm not in CONTROLS and all(arm in each.errors for each in own)]
        error_AT = np.array([[_standing(settings, each, arm) for each in own] for arm in arms])
        ranks = statistics.average_ranks(error_AT)
        rows += [
            {"size": size, "arm": arm, "average_rank": rank, "targets": len(own), "arms": len(arms)}
            for arm, rank in zip(arms, ranks.tolist(), strict=True)
        ]
    return rows


def _standing(settings: Pilot, measured: Measured, arm: str) -> float:
    """The error that decides, as a share of uniform's: what arms are ranked by."""
    return 100 - _gains(settings, measured, arm).mean()


def _gains(settings: Pilot, measured: Measured, arm: str) -> np.ndarray:
    """Gain over uniform by seed, per cent [S]."""
    of = settings.decide_on
    return statistics.relative_gains(measured.errors[REFERENCE][of], measured.errors[arm][of]).mean(axis=1)


def _trend(settings: Pilot, measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """How each arm's gain over uniform changes with training FLOPs; nothing for one size."""
    rows = []
    for target in dict.fromkeys(each.target for each in measured):
        own = [each for each in measured if each.target == target]
        x_Z = np.log10([each.flops for each in own])
        if len(set(x_Z.tolist())) < 2:
            continue
        for arm in sorted(set.intersection(*(set(each.errors) for each in own)) - {REFERENCE}):
            gain_SZ = np.column_stack([_gains(settings, each, arm) for each in own])
            slope = statistics.trend(x_Z, gain_SZ, level=settings.level)
            rows.append(
                {
                    "target": target,
                    "arm": arm,
                    "sizes": len(own),
                    "slope": slope.mean,
                    "ci_low": slope.low,
                    "ci_high": slope.high,
                }
            )
    return rows


def _harm(settings: Pilot, domains: pl.DataFrame, measured: Measured) -> list[dict[str, Any]]:
    """Every domain of every arm against uniform: what is modelled worse, inside and outside the target."""
    own = domains.filter((pl.col("size") == measured.size) & (pl.col("target") == measured.target))
    names = own["domain"].unique().sort().to_list()
    by_arm = {arm: _by_domain(own.filter(pl.col("arm") == arm), settings.seeds, names) for arm in measured.errors}
    rows = []
    for arm, bpb_SD in by_arm.items():
        if arm == REFERENCE:
            continue
        gain_SD = statistics.relative_gains(by_arm[REFERENCE], bpb_SD)
        intervals = [statistics.paired_interval(gain_S, level=settings.level) for gain_S in gain_SD.T]
        q_values = statistics.false_discovery([interval.p_value for interval in intervals])
        rows += [
            {
                "size": measured.size,
                "target": measured.target,
                "arm": arm,
                "domain": name,
                "bpb": float(bpb_SD[:, place].mean()),
                "uniform_bpb": float(by_arm[REFERENCE][:, place].mean()),
                "gain": interval.mean,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "q_value": q_value,
            }
            for place, (name, interval, q_value) in enumerate(zip(names, intervals, q_values, strict=True))
        ]
    return rows


def _by_domain(rows: pl.DataFrame, seeds: Sequence[int], names: Sequence[str]) -> np.ndarray:
    """Bits per byte [S, D] in order of seeds and names."""
    wide = rows.pivot("domain", index="seed", values="bpb").select("seed", *names)
    return pl.DataFrame({"seed": list(seeds)}).join(wide, on="seed", how="left").drop("seed").to_numpy()
