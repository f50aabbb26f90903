"""One mixture for several targets: the weighted mean, the best worst case, and the front between them.

Quantities: a gain says how far a mixture brings one target from the pool (0) to the best that its own mixture could
reach (1), measured by the expected estimate; it makes targets comparable whose estimates differ in size. Axis
letters: T targets, D domains, C domains that compete, K compromises. It does not know which targets conflict for a
reason and which by noise.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ppl_assets.errors import InputError, suggestion
from ppl_assets.mixture.decision import Candidates, Contest, Mixture, contest, decide, mix, mixture_of, scores
from ppl_assets.mixture.linear_program import Program, maximise
from ppl_assets.mixture.objective import Objective
from ppl_assets.mixture.projection import Vector
from ppl_assets.mixture.reasons import percent

# A target whose best mixture gains less than this over the pool cannot be helped by any mixture.
NO_GAIN = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Compromise:
    """One point of the Pareto front."""

    preference: Mapping[str, float]
    """Weight of each target, summing to 1."""

    gain: Mapping[str, float]
    """Gain of each target, 1 being what its own mixture reaches."""

    mixture: Mixture


def mean_candidates(by_target: Mapping[str, Candidates], preference: Mapping[str, float] | None = None) -> Candidates:
    """The candidates of the weighted mean of the targets, for `mix`; a domain that any target excludes is excluded.

    Its standard error is the weighted mean of theirs: the upper bound, reached where their errors move together, as
    those of estimates over the same models do.

    Args:
        by_target: candidates of each target: the same domains, caps and pool.
        preference: weight of each target; equal where not given.

    Raises:
        InputError: the targets' domains differ, or a preference is negative or names no target.
    """
    share = _preference(by_target, preference)
    first = _same_domains(by_target)
    share_T = np.array(list(share.values()))
    estimate_TD = np.array([one.estimate_D for one in by_target.values()])
    known = [one.stderr_D for one in by_target.values() if one.stderr_D is not None]
    stderr_D = share_T @ np.array(known) if len(known) == len(by_target) else None
    excluded = {name: why for one in by_target.values() for name, why in one.excluded.items()}
    return replace(first, estimate_D=share_T @ estimate_TD, stderr_D=stderr_D, excluded=excluded)


def mix_worst_case(by_target: Mapping[str, Candidates], *, budget: int, objective: Objective | None = None) -> Mixture:
    """The mixture whose smallest gain over the targets is as large as possible: a linear program.

    Args:
        by_target: candidates of each target: the same domains, caps and pool.
        budget: tokens of the training run.
        objective: lower confidence, safety margin and bounds apply; the projection must be `linear`.

    Returns:
        The mixture; its estimates are the plain mean over targets.

    Raises:
        InputError: as `mean_candidates` and `mix`, or the projection is not linear.
    """
    objective = objective or Objective()
    if objective.projection != "linear":
        raise InputError(f"the worst case over targets needs the projection 'linear', found {objective.projection!r}")
    mean = mean_candidates(by_target)
    field = contest(mean, objective, budget=budget)
    score_TC = _score_matrix(by_target, field, objective)
    weight_C, smallest = _worst_case_weights(field, score_TC, objective)
    weight_D, kept_D = field.spread(weight_C), field.spread(field.kept_C)
    decisions = decide(weight_D, kept_D, mean.cap_D, field.open_D, falls_back=False)
    reasons = []
    for i, name in enumerate(mean.domains):
        if name in field.barred:
            reasons.append(f"Excluded: {field.barred[name]}.")
            continue
        estimates = ", ".join(f"{target} {one.estimate_D[i]:.4g}" for target, one in by_target.items())
        reasons.append(
            f"Estimates {estimates}: gets {percent(weight_D[i])} of the mixture (cap {percent(mean.cap_D[i])}), which "
            f"brings every target at least {percent(smallest)} of the way from the pool to its own best mixture."
        )
    return mixture_of(mean, weight_D, budget=budget, decisions=decisions, reasons=reasons)


def pareto_front(
    by_target: Mapping[str, Candidates], *, budget: int, objective: Objective | None = None, steps: int = 20
) -> list[Compromise]:
    """Mixtures of which none is worse than another in every target, over a grid of preferences.

    Args:
        by_target: candidates of each target: the same domains, caps and pool.
        budget: tokens of the training run.
        objective: what counts as best for one preference.
        steps: preferences are multiples of 1 / steps.

    Returns:
        Compromises in the order of preference for the first target; of equal gains only the first is kept.
    """
    objective = objective or Objective()
    field = contest(mean_candidates(by_target), objective, budget=budget)
    score_TC = _score_matrix(by_target, field, objective)
    scale_T = _reach(field, score_TC)[1]
    found: list[Compromise] = []
    for share_T in _grid(len(by_target), steps):
        # targets count by their gain, so that one with larger estimates does not decide alone
        weight_T = np.divide(share_T, scale_T, out=np.zeros_like(scale_T), where=scale_T > NO_GAIN)
        if not weight_T.any():
            continue
        preference = dict(zip(by_target, (weight_T / weight_T.sum()).tolist(), strict=True))
        mixture = mix(mean_candidates(by_target, preference), budget=budget, objective=objective)
        gain = gains(by_target, mixture, budget=budget, objective=objective)
        shown = dict(zip(by_target, share_T.tolist(), strict=True))
        found.append(Compromise(preference=shown, gain=gain, mixture=mixture))
    return _undominated(found)


def gains(
    by_target: Mapping[str, Candidates], mixture: Mixture, *, budget: int, objective: Objective | None = None
) -> dict[str, float]:
    """Gain of a mixture for each target: 0 as the pool, 1 as the target's own best mixture; NaN where none can help."""
    objective = objective or Objective()
    field = contest(mean_candidates(by_target), objective, budget=budget)
    score_TC = _score_matrix(by_target, field, objective)
    base_T, reach_T = _reach(field, score_TC)
    above_T = score_TC @ mixture.weight_D[field.open_D] - base_T
    gain_T = np.divide(above_T, reach_T, out=np.full_like(reach_T, np.nan), where=reach_T > NO_GAIN)
    return dict(zip(by_target, gain_T.tolist(), strict=True))


def _worst_case_weights(field: Contest, score_TC: Vector, objective: Objective) -> tuple[Vector, float]:
    """Weights that maximise z with z <= gain of every target that can gain, and that z."""
    base_T, reach_T = _reach(field, score_TC)
    helped_T = reach_T > NO_GAIN
    if not helped_T.any():
        raise InputError("no mixture helps any of the targets: their estimates do not differ over domains")
    slope_TC = score_TC[helped_T] / reach_T[helped_T, None]
    n_domains, n_targets = field.cap_C.size, int(helped_T.sum())
    rows_RC = np.vstack([np.ones(n_domains), field.member_GC, slope_TC])
    z_R = np.concatenate([np.zeros(1 + len(objective.bounds)), -np.ones(n_targets)])
    lowest = float((slope_TC.min(axis=1) - base_T[helped_T] / reach_T[helped_T]).min())
    start_T = base_T[helped_T] / reach_T[helped_T]
    optimum = maximise(
        Program(
            gain_D=np.concatenate([np.zeros(n_domains), [1.0]]),
            low_D=np.concatenate([field.kept_C, [lowest]]),
            high_D=np.concatenate([field.cap_C, [1.0]]),
            rows_RD=np.column_stack([rows_RC, z_R]),
            row_low_R=np.concatenate([[1.0], [b.floor for b in objective.bounds], start_T]),
            row_high_R=np.concatenate([[1.0], [b.ceiling for b in objective.bounds], np.full(n_targets, np.inf)]),
        )
    )
    assert optimum is not None, "the targets' own best mixtures are feasible"
    return optimum.x_D[:-1], float(optimum.x_D[-1])


def _score_matrix(by_target: Mapping[str, Candidates], field: Contest, objective: Objective) -> Vector:
    """Scores of the domains that compete, one row per target."""
    return np.array([scores(one, objective)[field.open_D] for one in by_target.values()])


def _reach(field: Contest, score_TC: Vector) -> tuple[Vector, Vector]:
    """Per target the expected estimate of the pool, and how much the target's own mixture adds to it."""
    base_T = score_TC @ field.pool_share_C
    own_T = [row @ field.best(row) for row in score_TC]
    return base_T, np.array(own_T) - base_T


def _preference(by_target: Mapping[str, Candidates], preference: Mapping[str, float] | None) -> dict[str, float]:
    """The weight of every target, normalised to sum 1."""
    if not by_target:
        raise InputError("no targets are given: expected at least one")
    for target, weight in (preference or {}).items():
        if target not in by_target:
            raise InputError(f"a preference is given for {target!r}, which is no target{suggestion(target, by_target)}")
        if not (weight >= 0 and math.isfinite(weight)):
            raise InputError(f"the preference for target {target!r} is {weight}: expected 0 or more")
    weights = {target: 1.0 if preference is None else preference.get(target, 0.0) for target in by_target}
    total = sum(weights.values())
    if total == 0:
        raise InputError(f"the preferences for {list(by_target)} are all 0: expected at least one above")
    return {target: weight / total for target, weight in weights.items()}


def _same_domains(by_target: Mapping[str, Candidates]) -> Candidates:
    """The first target's candidates, after checking that the others have the same domains in the same order."""
    (first_target, first), *others = by_target.items()
    for target, one in others:
        if list(one.domains) != list(first.domains):
            raise InputError(
                f"targets {first_target!r} and {target!r} have different domains: expected the same, in order"
            )
    return first


def _grid(n_targets: int, steps: int) -> list[Vector]:
    """All preferences that are multiples of 1 / steps and sum to 1, the first target's weight falling."""
    # bars and stars: positions of n_targets - 1 bars among steps + n_targets - 1 places
    places = range(steps + n_targets - 1)
    shares = []
    for bars in itertools.combinations(places, n_targets - 1):
        edges = np.array([-1, *bars, steps + n_targets - 1])
        shares.append((np.diff(edges) - 1) / steps)
    return shares[::-1]


def _undominated(found: list[Compromise]) -> list[Compromise]:
    """Those than which no other is at least as good in every target and better in one; the first of equals."""
    gain_KT = np.nan_to_num(np.array([list(one.gain.values()) for one in found]))
    front: list[Compromise] = []
    for k, one in enumerate(found):
        better = ((gain_KT >= gain_KT[k] - NO_GAIN).all(axis=1)) & ((gain_KT > gain_KT[k] + NO_GAIN).any(axis=1))
        repeated = any(np.allclose(gain_KT[k], gain_KT[i], rtol=0, atol=NO_GAIN) for i in range(k))
        if not better.any() and not repeated:
            front.append(one)
    return front
