"""Staying near the previous mixture: a domain keeps what it had unless another beats it by enough, and only so much
changes at once.

Quantities: weights and churn as shares of the mixture, scores and switching costs in the unit of the estimates. Axis
letters: C domains that compete, H = 2 C halves of them, G bounds on groups.
Every domain competes as two: what it held before, valued at its score plus a switching cost, and what it could gain,
valued at its score less that cost. The best mixture of halves maximises sum(score w) - sum(cost |w - previous|), so
weight goes from i to j only if score_j - score_i is above cost_i + cost_j. With the cost at k standard errors that is
at least k standard errors of the difference, however the two are correlated. The churn is what the second halves get;
bounding it is a ceiling on one more group. A previous mixture that is optimal stays optimal, for any switching cost:
the objective is the same at it and nowhere larger than without costs.
It needs an objective that is linear in the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ppl_assets.mixture.group_bounds import Bounded, GroupBound, best_within_bounds
from ppl_assets.mixture.objective import Objective
from ppl_assets.mixture.projection import Vector

# A difference of estimates below this is none: ties go to what was there before. Ten times the tolerance of HiGHS.
TIE = 1e-6
# Room for the rounding of a churn that limits force.
FORCED = 1e-12


class ChurnBound(GroupBound):
    """The ceiling on what differs from the previous mixture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """C domains as 2C: first what each held before, then what each could gain."""

    low_H: Vector
    cap_H: Vector

    @classmethod
    def of(cls, previous_C: Vector, kept_C: Vector, cap_C: Vector) -> "Halves":
        """The halves of domains that fill from `kept_C` to `cap_C` and filled `previous_C`."""
        held_C = np.minimum(previous_C, cap_C)
        low_C = np.minimum(kept_C, held_C)
        return cls(low_H=np.concatenate([low_C, kept_C - low_C]), cap_H=np.concatenate([held_C, cap_C - held_C]))

    @property
    def held_C(self) -> Vector:
        """What is left of the previous mixture under the caps."""
        return self.cap_H[~self.gain_H]

    @property
    def gain_H(self) -> NDArray[np.bool_]:
        """Which halves are a domain's gain."""
        return np.arange(self.cap_H.size) >= self.cap_H.size // 2

    def scores(self, score_C: Vector, cost_C: Vector) -> Vector:
        """What the halves are worth."""
        return np.concatenate([score_C + cost_C, score_C - cost_C])

    def members(self, member_GC: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which halves G bounds are about, and in a last row which ones the bound on churn is about."""
        return np.vstack([np.hstack([member_GC, member_GC]), self.gain_H])

    def bound_on_churn(self, churn: float, bounds: Sequence[GroupBound], member_GC: NDArray[np.bool_]) -> ChurnBound:
        """At most `churn` changes, or the least that caps, bounds and domains that left force.

        Raises:
            InputError: no mixture satisfies all bounds.
        """
        member_GH = np.hstack([member_GC, member_GC])
        least = best_within_bounds(-self.gain_H.astype(np.float64), self.low_H, self.cap_H, bounds, member_GH)
        forced = float(least.weight_D[self.gain_H].sum()) + FORCED
        return ChurnBound(attribute="mixture", label="new", ceiling=min(max(churn, forced), 1.0))

    def joined(self, best: Bounded) -> Bounded:
        """The best weights of halves as those of domains; more of a domain is more of its second half."""
        weight_C = best.weight_D[~self.gain_H] + best.weight_D[self.gain_H]
        return replace(best, weight_D=weight_C, excess_D=best.excess_D[self.gain_H])


def best_near(
    score_C: Vector, cost_C: Vector, halves: Halves, objective: Objective, member_GC: NDArray[np.bool_]
) -> Bounded:
    """The best mixture by score and switching cost, within the objective's bounds; its last bound is that on churn.

    Raises:
        InputError: no mixture satisfies all bounds.
    """
    bounds = [*objective.bounds, halves.bound_on_churn(objective.churn, objective.bounds, member_GC)]
    score_H = halves.scores(score_C, cost_C)
    return halves.joined(best_within_bounds(score_H, halves.low_H, halves.cap_H, bounds, halves.members(member_GC)))


def switching_cost(standard_errors: float, stderr_C: Vector) -> Vector:
    """The cost of a unit of weight that a domain gains or loses; an unknown standard error counts as the largest."""
    if not standard_errors:
        return np.full_like(stderr_C, TIE)
    return standard_errors * np.nan_to_num(stderr_C, nan=float(np.nanmax(stderr_C))) + TIE
