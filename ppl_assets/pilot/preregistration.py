"""The plan of a pilot, frozen before any arm runs: what is to be shown, on what, and by which rule.

A plan is the part of the study that a pilot rests on, as JSON: what is trained, on which pages an arm is given, how it
is measured and judged. Its hash is the pilot's identity and stands beside every number that was measured under it. The
list of plans only grows: an edited study is a new pilot, which says what was changed and which arms' results were known
by then. A plan holds what the study states and not what it is applied to: of text and models that change, the
fingerprints know. What no table can know is whether somebody looked elsewhere.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.schema import TABLES
from ppl_assets.study import Study

# How a run is laid out on a machine and when it is saved changes no number.
_LAYOUT = {"sizes": {"__all__": {"device_sequences", "checkpoint_steps"}}}
_FOR_THE_RECORD = {"reason", "owner", "date"}
# What changes neither a page nor a result, and what the plan holds in a form of its own. All else is part of a plan, so
# that a new field of the study is one unless somebody says otherwise.
_NOT_PLANNED: dict[str, Any] = {
    **dict.fromkeys(("prices", "alternatives"), True),
    **dict.fromkeys(("name", "seed", "targets", "models", "pilot"), True),
    "corpus": {"expected"},
    "scoring": {"token_budget"},
    "benchmarks": {"batch_size"},
    "filter": {"arms", "with_text"},
    "policy": {"__all__": _FOR_THE_RECORD},
    "model_policy": _FOR_THE_RECORD,
}


def plan(study: Study) -> dict[str, Any]:
    """What the pilot of a study does, how its arms come to their pages and how it is judged, as plain JSON."""
    pilot = study.pilot
    assert pilot is not None, "the study states no pilot"
    # A checkpoint that appears in a folder of the study is no edit of the study.
    stated = [model for model in study.models if not study.is_checkpoint(model)]
    return {
        **study.model_dump(mode="json", exclude=_NOT_PLANNED),
        **pilot.model_dump(mode="json", exclude=_LAYOUT),
        "study": study.name,
        "study_seed": study.seed,
        "arms": study.pilot_arms,
        "targets": {name: study.targets[name].model_dump(mode="json") for name in _targets(study)},
        "models": {model.slug: model.model_dump(mode="json") for model in stated},
        "decision_rule": decision_rule(study),
    }


def _targets(study: Study) -> list[str]:
    """The pilot's targets, and those whose errors are taken out of theirs."""
    contrasts = [other for name in study.pilot_targets for other in study.targets[name].contrast_to]
    return [*dict.fromkeys([*study.pilot_targets, *contrasts])]


def plan_hash(plan: dict[str, Any]) -> str:
    """Identity of a plan."""
    return hashlib.sha256(_canonical(plan).encode()).hexdigest()[:16]


def decision_rule(study: Study) -> str:
    """The rule by which the pilot decides, in a sentence."""
    pilot = study.pilot
    assert pilot is not None, "the study states no pilot"
    tasks = "all of its tasks" if pilot.decide_on == "error" else "its tasks in bits per byte"
    return (
        f"For each target and size, `ours` is better than `uniform` if the {pilot.level:.0%} interval of the paired "
        f"gain over {len(pilot.seeds)} seeds, in per cent of uniform's error and as the mean over {tasks}, lies above "
        f"{pilot.minimum_gain:g}."
    )


def registered(rows: pl.DataFrame, study: Study) -> dict[str, Any]:
    """The latest row of ``preregistration``, which must be the study's plan of now.

    Raises:
        InputError: no plan is registered, the study has changed since, or a row is not what was hashed.
    """
    latest = rows.sort("number").tail(1)
    if latest.is_empty() or latest["pilot"].item() != plan_hash(plan(study)):
        raise InputError(
            "table preregistration: the pilot of the study as it is now is not registered; materialize preregistration"
        )
    row = latest.row(0, named=True)
    if plan_hash(json.loads(row["plan"])) != row["pilot"]:
        raise InputError(f"table preregistration: the plan of pilot {row['number']} is not the one that was hashed")
    return row


def register(study: Study, earlier: pl.DataFrame, *, known_arms: list[str], now: str) -> pl.DataFrame:
    """Rows of ``preregistration``: the earlier ones, and one more where the plan is a new one.

    Args:
        known_arms: arms whose results under the latest plan are known.
        now: time of registration, ISO 8601 in UTC.
    """
    new = plan(study)
    latest = earlier.sort("number").tail(1)
    before = None if latest.is_empty() else latest.row(0, named=True)
    if before and before["pilot"] == plan_hash(new):
        return earlier
    row = {
        "number": before["number"] + 1 if before else 1,
        "pilot": plan_hash(new),
        "registered": now,
        "hypothesis": new["hypothesis"],
        "decision_rule": new["decision_rule"],
        "plan": _canonical(new),
        "supersedes": before["number"] if before else None,
        "changes": "; ".join(_changes(json.loads(before["plan"]), new)) if before else None,
        "known_arms": ", ".join(known_arms) or None if before else None,
    }
    return pl.concat([earlier, pl.DataFrame([row], schema=TABLES["preregistration"].polars_schema)])


def _changes(before: Any, after: Any, name: str = "") -> Iterator[str]:
    """Every field that differs, by its path, with what it was and what it is."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for field in sorted({*before, *after}):
            yield from _changes(before.get(field), after.get(field), f"{name}.{field}" if name else field)
    else:
        yield f"{name}: {_canonical(before)} -> {_canonical(after)}"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
