"""The objective: which mixture counts as best, given estimates, their standard errors, the pool and the caps.

Quantities: weights as shares of the mixture; estimates, standard errors and the temperature in one unit (correlation).
Axis letter: D domains. Sources: Thrush, Potts, Hashimoto (arXiv 2409.05816) for the linear and quadratic projections;
the exponential tilt of a pool by quality follows Wettig et al., QuRating (arXiv 2402.09739).
It does not know whether the evidence carries a choice at all: that is the gate's verdict, see `decision`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ppl_assets.errors import InputError
from ppl_assets.mixture.group_bounds import GroupBound, best_within_bounds
from ppl_assets.mixture.group_projection import project_within_bounds
from ppl_assets.mixture.projection import Vector, l2, linear, relative_entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What to maximise over mixtures under the caps."""

    projection: Literal["linear", "l2", "kl"] = "linear"
    """`linear`: fill the best; `l2`: nearest to the estimates; `kl`: tilt the pool by exp(estimate / temperature)."""

    lower_confidence: float = 0.0
    """Standard errors subtracted from every estimate: 0 trusts the estimate, 1 to 2 asks for proof."""

    temperature: float = 0.1
    """For `kl`: small is all-or-nothing, large is the pool's own distribution; in the unit of the estimates."""

    safety_margin: float = 0.0
    """Fixed share of the mixture, from 0 to 1, kept on the pool's own distribution whatever the estimates say."""

    bounds: Sequence[GroupBound] = ()
    """Floors and ceilings for groups of domains."""

    churn: float = 1.0
    """Most of the mixture, above 0 and up to 1, that may differ from the previous one unless limits force more."""

    hysteresis: float = 0.0
    """Standard errors by which a domain must beat one that it takes weight from: 0 takes any difference."""

    def __post_init__(self) -> None:
        """Refuse what no mixture can follow."""
        if self.projection not in ("linear", "l2", "kl"):
            raise InputError(f"objective.projection is {self.projection!r}: expected 'linear', 'l2' or 'kl'")
        if not (self.lower_confidence >= 0 and math.isfinite(self.lower_confidence)):
            raise InputError(f"objective.lower_confidence is {self.lower_confidence}: expected 0 or more")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise InputError(f"objective.temperature is {self.temperature}: expected a number above 0")
        if not 0 <= self.safety_margin <= 1:
            raise InputError(f"objective.safety_margin is {self.safety_margin}: expected a share from 0 to 1")
        if not 0 < self.churn <= 1:
            raise InputError(f"objective.churn is {self.churn}: expected a share above 0 and up to 1")
        if not (self.hysteresis >= 0 and math.isfinite(self.hysteresis)):
            raise InputError(f"objective.hysteresis is {self.hysteresis}: expected 0 or more")
        if self.stays_near and self.projection != "linear":
            raise InputError(f"churn and hysteresis need the projection 'linear', found {self.projection!r}")

    @property
    def stays_near(self) -> bool:
        """Whether the previous mixture counts."""
        return self.churn < 1 or self.hysteresis > 0

    def score(self, estimate_D: Vector, stderr_D: Vector) -> Vector:
        """The number by which domains compete: estimate minus `lower_confidence` standard errors."""
        return estimate_D - self.lower_confidence * stderr_D if self.lower_confidence else estimate_D


def pool_within_limits(
    pool_D: Vector, cap_D: Vector, member_GD: NDArray[np.bool_], bounds: Sequence[GroupBound]
) -> Vector:
    """The mixture under caps and bounds nearest (in KL divergence) to the pool's own distribution.

    It is the pool itself where neither a cap nor a bound binds.
    """
    log_pool_D = np.log(pool_D)
    if not bounds:
        return relative_entropy(log_pool_D, cap_D)
    return project_within_bounds(lambda log_D: relative_entropy(log_D, cap_D), log_pool_D, cap_D, bounds, member_GD)[0]


def best_weights(
    score_D: Vector,
    pool_D: Vector,
    kept_D: Vector,
    cap_D: Vector,
    member_GD: NDArray[np.bool_],
    objective: Objective,
) -> Vector:
    """The best mixture: the safety margin on the pool within limits, the rest chosen within what the limits leave.

    Args:
        score_D: D finite scores, higher is better (`Objective.score`).
        pool_D: what the pool holds of D domains, positive.
        kept_D: the safety margin, as a share of the mixture: `safety_margin` times `pool_within_limits`.
        cap_D: D positive caps that sum to at least 1.
        member_GD: which domain each of the objective's G bounds is about.
        objective: what counts as best.

    Returns:
        D weights that sum to 1 within 1e-12, each at most its cap.

    Raises:
        InputError: the bounds on groups cannot hold together.
    """
    if objective.bounds and objective.projection == "linear":
        return best_within_bounds(score_D, kept_D, cap_D, objective.bounds, member_GD).weight_D
    return _best_weights(score_D, pool_D, kept_D, cap_D, member_GD, objective)[0]


def bound_multipliers(
    score_D: Vector,
    pool_D: Vector,
    kept_D: Vector,
    cap_D: Vector,
    member_GD: NDArray[np.bool_],
    objective: Objective,
) -> Vector:
    """Of `l2` and `kl`: what each bound adds to the scores of its members, positive for a floor that binds.

    Args: as `best_weights`.
    """
    multiplier_G = _best_weights(score_D, pool_D, kept_D, cap_D, member_GD, objective)[1]
    return multiplier_G * objective.temperature if objective.projection == "kl" else multiplier_G


def _best_weights(
    score_D: Vector,
    pool_D: Vector,
    kept_D: Vector,
    cap_D: Vector,
    member_GD: NDArray[np.bool_],
    objective: Objective,
) -> tuple[Vector, Vector]:
    """The best weights, and the multipliers of the bounds in the unit in which the projection takes scores."""
    margin, idle_G = objective.safety_margin, np.zeros(len(objective.bounds))
    left_D = np.maximum(cap_D - kept_D, 0.0)
    if margin == 1:  # nothing to choose
        return kept_D, idle_G
    if math.fsum(left_D) <= 1 - margin:  # caps that only just suffice
        if objective.bounds:  # refuses caps that break them
            best_within_bounds(np.zeros_like(score_D), np.zeros_like(cap_D), cap_D, objective.bounds, member_GD)
        return cap_D.copy(), idle_G
    open_D = left_D > 0
    left = [
        bound.after(float(kept_D[member_D].sum()), margin)
        for bound, member_D in zip(objective.bounds, member_GD, strict=True)
    ]
    tau_D = left_D[open_D] / (1 - margin)
    weight_D = kept_D.copy()
    chosen_D, multiplier_G = _project(
        score_D[open_D], pool_D[open_D], tau_D, member_GD[:, open_D], replace(objective, bounds=left)
    )
    weight_D[open_D] += (1 - margin) * chosen_D
    return np.minimum(weight_D, cap_D), multiplier_G


def _project(
    score_D: Vector, pool_D: Vector, tau_D: Vector, member_GD: NDArray[np.bool_], objective: Objective
) -> tuple[Vector, Vector]:
    """The projection named by the objective, under its bounds, and their multipliers."""
    project = {"linear": linear, "l2": l2, "kl": relative_entropy}[objective.projection]
    if objective.projection == "kl":
        score_D = np.log(pool_D) + score_D / objective.temperature
    if not objective.bounds:
        return project(score_D, tau_D), np.zeros(0)
    return project_within_bounds(lambda each_D: project(each_D, tau_D), score_D, tau_D, objective.bounds, member_GD)
