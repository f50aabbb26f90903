"""One mixture for the target that it serves worst: the largest smallest gain, by linear programs.

Quantities: gains as `several_targets` defines them. Axis letters: T targets, D domains, C domains that compete, H the
same or, where a previous mixture counts, their 2 C halves (`stability`), G bounds, R rows.
A target with weight p counts by p times what its gain falls short of 1, and the largest such shortfall is made as small
as possible; with equal weights that is the largest smallest gain. Every mixture that no other beats in all targets is
the answer for some weights (Bowman, On the relationship of the Tchebycheff norm and the efficient frontier of
multiple-criteria objectives, 1976). Of several answers the one with the largest sum of gains is taken, which no other
beats in one target without loss in another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ppl_assets.errors import InputError
from ppl_assets.mixture.decision import (
    Candidates,
    Contest,
    Mixture,
    Verdict,
    contest,
    decide,
    mix,
    mixture_of,
    standard_errors,
)
from ppl_assets.mixture.group_bounds import Bounded, GroupBound
from ppl_assets.mixture.linear_program import Optimum, Program, maximise
from ppl_assets.mixture.objective import Objective
from ppl_assets.mixture.projection import Vector
from ppl_assets.mixture.reasons import percent
from ppl_assets.mixture.several_targets import NO_GAIN, Yardstick, mean_candidates, target_shares
from ppl_assets.mixture.stability import switching_cost

# What the smallest gain may lose for the sake of the others: rounding.
GIVEN = 1e-13


def mix_worst_case(
    by_target: Mapping[str, Candidates],
    *,
    budget: int,
    preference: Mapping[str, float] | None = None,
    verdict: Verdict | None = None,
    objective: Objective | None = None,
) -> Mixture:
    """The mixture whose smallest gain over the targets is as large as possible.

    Args:
        by_target: candidates of each target: the same domains, caps, pool and previous mixture.
        budget: tokens of the training run.
        preference: weight of what each target falls short of its own best; equal where not given.
        verdict: of the gate on the targets together, as `mix` takes it.
        objective: all of it applies; the projection must be `linear`.

    Returns:
        The mixture; its estimates are the mean over targets by preference.

    Raises:
        InputError: as `mean_candidates` and `mix`, or the projection is not linear.
    """
    objective = objective or Objective()
    if objective.projection != "linear":
        raise InputError(f"the worst case over targets needs the projection 'linear', found {objective.projection!r}")
    mean = mean_candidates(by_target, preference)
    if verdict == "abstain":
        return mix(mean, budget=budget, verdict=verdict, objective=objective)
    field = contest(mean, objective, budget=budget)
    best, smallest = worst_case(by_target, field, objective, preference)
    weight_D, kept_D = field.spread(best.weight_D), field.spread(field.kept_C)
    decisions = decide(weight_D, kept_D, mean.cap_D, field.open_D, falls_back=False)
    end = f"brings every target at least {percent(smallest)} of the way from the pool to its own best mixture"
    caution = "; the evidence for these targets is weak" if verdict == "weak" else ""
    reasons = []
    for i, name in enumerate(mean.domains):
        if name in field.barred:
            reasons.append(f"Excluded: {field.barred[name]}.")
            continue
        estimates = ", ".join(f"{target} {one.estimate_D[i]:.4g}" for target, one in by_target.items())
        got = f"gets {percent(weight_D[i])} of the mixture (cap {percent(mean.cap_D[i])})"
        reasons.append(f"Estimates {estimates}: {got}, which {end}{caution}.")
    return mixture_of(mean, weight_D, budget=budget, decisions=decisions, reasons=reasons)


def worst_case(
    by_target: Mapping[str, Candidates],
    field: Contest,
    objective: Objective,
    preference: Mapping[str, float] | None = None,
) -> tuple[Bounded, float]:
    """The best weights, with what limits cost in the weighted shortfall, and the smallest gain that counts.

    Raises:
        InputError: no target can gain, or no mixture satisfies all bounds.
    """
    yardstick = Yardstick.within(by_target, field, objective)
    # weights have mean 1, so that equal ones leave gains in their unit
    weight_T = np.array([*target_shares(by_target, preference).values()]) * len(by_target)
    weight_T = np.where(yardstick.reach_T > NO_GAIN, weight_T, 0.0)
    if not weight_T.any():
        raise InputError(
            "no mixture helps any of the targets: their estimates do not differ over domains, or caps leave no choice"
        )
    problem = _gains_of_domains(yardstick, field)
    if (halves := field.halves) is not None:
        error_TC = np.array([standard_errors(one, objective)[field.open_D] for one in by_target.values()])
        cost_TC = np.array([switching_cost(objective.hysteresis, row) for row in error_TC])
        problem = _gains_of_halves(problem, field, cost_TC[yardstick.reach_T > NO_GAIN])
    best = problem.solved(weight_T[yardstick.reach_T > NO_GAIN])
    best = best if halves is None else halves.joined(best)
    gain_T = yardstick.gain_of(best.weight_D)
    return best, float(gain_T[weight_T > 0].min())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gains:
    """Gains of T targets as slope w - start, and the limits on w."""

    slope_TH: Vector
    start_T: Vector
    reach_T: Vector
    low_H: Vector
    high_H: Vector
    bounds: Sequence[GroupBound]
    member_GH: NDArray[np.bool_]

    def solved(self, weight_T: Vector) -> Bounded:
        """The w with the largest z <= weight_t (gain_t - 1) for all t, among these the one with the most gain."""
        counted = weight_T > 0
        first = self._program(weight_T[counted], counted)
        optimum = maximise(first)
        assert optimum is not None, "the targets' own best mixtures are feasible"
        low_D = first.low_D.copy()
        low_D[-1] = optimum.x_D[-1] - GIVEN
        gain_D = np.concatenate([self.slope_TH.sum(axis=0), [0.0]])
        # what only just fits may not fit once more, by rounding: then the first answer stands
        second = maximise(replace(first, gain_D=gain_D, low_D=low_D)) or optimum
        return self._priced(optimum, first, second.x_D[:-1])

    def _program(self, weight_T: Vector, counted: NDArray[np.bool_]) -> Program:
        """Variables are the weights and, last, z."""
        slope_KH, start_K = weight_T[:, None] * self.slope_TH[counted], weight_T * (self.start_T[counted] + 1)
        n_targets = len(start_K)
        rows_RH = np.vstack([np.ones_like(self.low_H), self.member_GH, slope_KH])
        z_R = np.concatenate([np.zeros(1 + len(self.bounds)), -np.ones(n_targets)])
        return Program(
            gain_D=np.concatenate([np.zeros_like(self.low_H), [1.0]]),
            low_D=np.concatenate([self.low_H, [float((slope_KH.min(axis=1) - start_K).min())]]),
            high_D=np.concatenate([self.high_H, [0.0]]),
            rows_RD=np.column_stack([rows_RH, z_R]),
            row_low_R=np.concatenate([[1.0], [b.floor for b in self.bounds], start_K]),
            row_high_R=np.concatenate([[1.0], [b.ceiling for b in self.bounds], np.full(n_targets, np.inf)]),
        )

    def _priced(self, optimum: Optimum, program: Program, weight_H: Vector) -> Bounded:
        of_bounds = slice(1, 1 + len(self.bounds))
        return Bounded(
            weight_D=weight_H,
            bounds=self.bounds,
            floor_price_G=optimum.low_price_R[of_bounds],
            ceiling_price_G=optimum.high_price_R[of_bounds],
            excess_D=(optimum.low_price_R - optimum.high_price_R) @ program.rows_RD[:, :-1],
        )


def _gains_of_domains(yardstick: Yardstick, field: Contest) -> _Gains:
    """Gains of the targets that can gain, over the domains that compete."""
    helped_T = yardstick.reach_T > NO_GAIN
    reach_T = yardstick.reach_T[helped_T]
    return _Gains(
        slope_TH=yardstick.score_TC[helped_T] / reach_T[:, None],
        start_T=yardstick.base_T[helped_T] / reach_T,
        reach_T=reach_T,
        low_H=field.kept_C,
        high_H=field.cap_C,
        bounds=field.objective.bounds,
        member_GH=field.member_GC,
    )


def _gains_of_halves(gains: _Gains, field: Contest, cost_TC: Vector) -> _Gains:
    """The same less switching costs: never more than the gain, and the gain itself where nothing changes."""
    halves, objective = field.halves, field.objective
    assert halves is not None
    cost_TC = cost_TC / gains.reach_T[:, None]
    churn = halves.bound_on_churn(objective.churn, objective.bounds, field.member_GC)
    return replace(
        gains,
        slope_TH=np.array(
            [halves.scores(slope_C, cost_C) for slope_C, cost_C in zip(gains.slope_TH, cost_TC, strict=True)]
        ),
        start_T=gains.start_T + cost_TC @ halves.held_C,
        low_H=halves.low_H,
        high_H=halves.cap_H,
        bounds=[*objective.bounds, churn],
        member_GH=halves.members(field.member_GC),
    )
