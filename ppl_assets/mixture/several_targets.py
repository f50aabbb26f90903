"""Several targets as one: their weighted mean, and how far a mixture serves each of them.

Quantities: a gain says how far a mixture brings one target from the pool (0) to the best that its own mixture could
reach (1), measured by the expected estimate; it makes targets comparable whose estimates differ in size. Axis
letters: T targets, D domains, C domains that compete. It does not know which targets conflict for a reason and which by
noise.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ppl_assets.errors import InputError, suggestion
from ppl_assets.mixture.decision import Candidates, Contest, Mixture, contest, scores
from ppl_assets.mixture.objective import Objective
from ppl_assets.mixture.projection import Vector
from ppl_assets.mixture.reasons import percent

# A target whose best mixture gains less than this over the pool cannot be helped by any mixture.
NO_GAIN = 1e-9


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
    share = target_shares(by_target, preference)
    first = _same_domains(by_target)
    share_T = np.array(list(share.values()))
    estimate_TD = np.array([one.estimate_D for one in by_target.values()])
    known = [one.stderr_D for one in by_target.values() if one.stderr_D is not None]
    stderr_D = share_T @ np.array(known) if len(known) == len(by_target) else None
    excluded = {name: why for one in by_target.values() for name, why in one.excluded.items()}
    named = ", ".join(f"{target} {percent(part)}" for target, part in share.items() if part > 0)
    return replace(
        first,
        estimate_D=share_T @ estimate_TD,
        stderr_D=stderr_D,
        excluded=excluded,
        estimate_name=f"mean estimate ({named})",
    )


def target_shares(by_target: Iterable[str], preference: Mapping[str, float] | None) -> dict[str, float]:
    """The weight of every target, normalised to sum 1; equal where no preference is given.

    Raises:
        InputError: no target, or a preference that is negative, names no target or is 0 for all.
    """
    by_target = list(by_target)
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
        raise InputError(f"the preferences for {by_target} are all 0: expected at least one above")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """How far a mixture brings each of T targets from the pool to the best that the target's own mixture reaches."""

    targets: Sequence[str]
    open_D: NDArray[np.bool_]
    score_TC: Vector
    base_T: Vector
    """Expected estimate of the pool."""

    reach_T: Vector
    """How much the target's own best mixture adds to it."""

    @classmethod
    def of(cls, by_target: Mapping[str, Candidates], *, budget: int, objective: Objective | None = None) -> "Yardstick":
        """The yardstick under an objective's margin and bounds; own mixtures are free of any previous one.

        Raises:
            InputError: as `mean_candidates` and `mix`.
        """
        objective = objective or Objective()
        return cls.within(by_target, contest(mean_candidates(by_target), objective, budget=budget), objective)

    @classmethod
    def within(cls, by_target: Mapping[str, Candidates], field: Contest, objective: Objective) -> "Yardstick":
        """The same, for a contest that is open already."""
        score_TC = np.array([scores(one, objective)[field.open_D] for one in by_target.values()])
        base_T = score_TC @ field.pool_share_C
        own_T = np.array([row @ field.best(row) for row in score_TC])
        return cls(targets=[*by_target], open_D=field.open_D, score_TC=score_TC, base_T=base_T, reach_T=own_T - base_T)

    def gains(self, mixture: Mixture) -> dict[str, float]:
        """Gain of a mixture for each target: 0 as the pool, 1 as its own best mixture; NaN where none can help."""
        gain_T = self.gain_of(mixture.weight_D[self.open_D])
        return dict(zip(self.targets, gain_T.tolist(), strict=True))

    def gain_of(self, weight_C: Vector) -> Vector:
        """The same for the weights of the domains that compete."""
        above_T = self.score_TC @ weight_C - self.base_T
        return np.divide(above_T, self.reach_T, out=np.full_like(above_T, np.nan), where=self.reach_T > NO_GAIN)


def gains(
    by_target: Mapping[str, Candidates], mixture: Mixture, *, budget: int, objective: Objective | None = None
) -> dict[str, float]:
    """Gain of a mixture for each target: 0 as the pool, 1 as the target's own best mixture; NaN where none can help."""
    return Yardstick.of(by_target, budget=budget, objective=objective).gains(mixture)
