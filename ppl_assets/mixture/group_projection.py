"""The quadratic and the relative-entropy projection under floors and ceilings for groups.

Quantities: weights as shares of the mixture, multipliers in the unit of the scores. Axis letters: D domains, G bounds.
Both objectives are strictly concave and separable, so a bound on a group acts like a bonus (floor) or a malus (ceiling)
added to the scores of its members: its multiplier. The multipliers maximise a smooth concave dual; each is solved for
in turn while the others stay (Hildreth, Naval Research Logistics Quarterly 4, 1957; convergence: Luo and Tseng, Journal
of Optimization Theory and Applications 72, 1992), by root finding, since the share of a group grows with its
multiplier.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ppl_assets.errors import InputError
from ppl_assets.mixture.group_bounds import MISSED, GroupBound, best_within_bounds
from ppl_assets.mixture.projection import Vector

MOST_ROUNDS = 1000


def project_within_bounds(
    project: Callable[[Vector], Vector],
    score_D: Vector,
    cap_D: Vector,
    bounds: Sequence[GroupBound],
    member_GD: NDArray[np.bool_],
) -> tuple[Vector, Vector]:
    """The best weights under caps and bounds, which hold within 1e-10, and the multiplier of every bound.

    Args:
        project: from D scores to the weights that are best under the caps alone, strictly concave.
        score_D: D scores.
        cap_D: D positive caps.
        bounds, member_GD: G bounds and which domains they are about.

    Raises:
        InputError: no mixture satisfies all bounds, or only ones so tight that the search does not end.
    """
    best_within_bounds(np.zeros_like(score_D), np.zeros_like(cap_D), cap_D, bounds, member_GD)  # refuses conflicts
    multiplier_G = np.zeros(len(bounds))
    for _ in range(MOST_ROUNDS):
        for g, bound in enumerate(bounds):
            multiplier_G[g] = 0.0
            others_D = score_D + multiplier_G @ member_GD
            multiplier_G[g] = _multiplier(project, others_D, member_GD[g], bound)
        weight_D = project(score_D + multiplier_G @ member_GD)
        if all(map(_at_rest, bounds, member_GD @ weight_D, multiplier_G)):
            return weight_D, multiplier_G
    raise InputError(
        f"the bounds on {', '.join(bound.name for bound in bounds)} leave so little room that no mixture was found in "
        f"{MOST_ROUNDS} rounds: expected bounds that do not hold each other fast"
    )


def _at_rest(bound: GroupBound, share: float, multiplier: float) -> bool:
    """Whether a share is within its bound and, where the bound pushes or holds it, at the bound.

    Weights that no longer move are not enough: while free domains are few, multipliers of two bounds can go on moving
    against each other until another domain is freed.
    """
    low = bound.ceiling if multiplier < 0 else bound.floor
    high = bound.floor if multiplier > 0 else bound.ceiling
    return low - MISSED <= share <= high + MISSED


def _multiplier(
    project: Callable[[Vector], Vector], score_D: Vector, member_D: NDArray[np.bool_], bound: GroupBound
) -> float:
    """The number nearest to 0 that, added to the members' scores, brings their share within the bound."""
    from scipy.optimize import brentq

    def share(multiplier: float) -> float:
        return float(project(score_D + multiplier * member_D)[member_D].sum())

    wanted = float(np.clip(share(0.0), bound.floor, bound.ceiling))
    if abs(share(0.0) - wanted) <= MISSED / 2:
        return 0.0
    far = 1.0 if share(0.0) < wanted else -1.0
    while (share(far) - wanted) * far < 0 and abs(share(far) - wanted) > MISSED / 2:
        far *= 2
    if abs(share(far) - wanted) <= MISSED / 2:
        return far
    return float(brentq(lambda multiplier: share(multiplier) - wanted, 0.0, far, xtol=1e-15, rtol=1e-15))
