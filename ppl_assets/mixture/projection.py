"""Projections: from estimates to mixture weights w with sum(w) = 1 and 0 <= w_j <= tau_j, exactly.

Quantities: estimates in any unit (higher is better), caps tau and weights as shares of the mixture. Axis letter: D
domains.
Source: Thrush, Potts, Hashimoto (arXiv 2409.05816), Theorem 2 for the linear projection; the quadratic one is the
Euclidean projection onto a capped simplex; the relative-entropy one is the same problem with Kullback-Leibler distance.
All three are monotone in one dual variable, which is bisected over sorted breakpoints: O(D log D), no iteration limit,
no tolerance to choose. Sums whose rounding could show are taken with ``math.fsum`` or pairwise, so that nothing depends
on the order of domains. The functions know neither what a domain is nor how sure its estimate is: see `objective`.
"""

import bisect
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ppl_assets.errors import InputError

Vector = NDArray[np.float64]

# Caps that are shares of one total sum to 1 up to a rounding error of 2^-53 per term relative to the term; caps read
# back from text carry a little more. Less than this short of 1 counts as 1.
SUM_TOLERANCE = 1e-12
# Caps that exactly fill the mixture sum to 1 less a few roundings of 2^-53, a few more after a safety margin is divided
# out. What they leave is nothing, not a weight for one more domain.
NOTHING = 1e-14


def linear(estimate: ArrayLike, tau: ArrayLike, *, domains: Sequence[str] | None = None) -> Vector:
    """Weights that maximise sum_j estimate_j w_j: domains in decreasing estimate fill their caps until the sum is 1.

    Depends on the ranks of the estimates only. Domains tied at the boundary share what is left in proportion to their
    caps, so the answer does not depend on the order of domains.

    Args:
        estimate: D finite numbers, higher is better.
        tau: D finite positive caps that sum to at least 1; above 1 means no cap.
        domains: D names, used in error messages only.

    Returns:
        D weights, float64, each at most its cap; their sum is 1 within 1e-12.

    Raises:
        InputError: shapes differ, a value is not finite, a cap is not positive, or the caps sum to less than 1.

    Example:
        >>> linear([0.2, 0.9, 0.2], [0.6, 0.5, 0.2]).round(3).tolist()
        [0.375, 0.5, 0.125]
    """
    estimate_D, tau_D = _checked(estimate, tau, domains)
    boundary = _boundary(estimate_D, tau_D)
    tied, above = estimate_D == boundary, estimate_D > boundary
    room = 1 - math.fsum(tau_D[above])
    tied_caps = tau_D[tied]
    weight_D = np.where(above, tau_D, 0.0)
    weight_D[tied] = np.minimum(tied_caps / math.fsum(tied_caps) * room, tied_caps)
    return weight_D


def l2(estimate: ArrayLike, tau: ArrayLike, *, domains: Sequence[str] | None = None) -> Vector:
    """Weights nearest to the estimates in Euclidean distance: clip(estimate + c, 0, tau) with sum 1.

    Depends on the values of the estimates, so their unit matters. Any finite magnitude is handled: estimates are taken
    relative to the boundary of the linear projection, near which differences of float64 numbers are exact. There c is
    in (0, 1]: at 0 only domains above the boundary get something, and their caps sum to less than 1; at 1 these and the
    tied ones are at their caps, which sum to 1 or more. Hence a domain 2 below gets nothing and one 2 above its cap.

    Args, Returns, Raises: as `linear`.

    Example:
        >>> l2([0.2, 0.9, 0.2], [0.6, 0.5, 0.2]).round(3).tolist()
        [0.3, 0.5, 0.2]
    """
    estimate_D, tau_D = _checked(estimate, tau, domains)
    cap_D = np.minimum(tau_D, 1.0)  # no weight can pass 1, and a cap far above it would blur the sums
    relative_D = _relative(estimate_D, _boundary(estimate_D, tau_D), far=2.0)
    weight_D = np.clip(relative_D + _offset(relative_D, cap_D), 0.0, cap_D)
    return _settled(weight_D, cap_D)


def relative_entropy(log_score: ArrayLike, tau: ArrayLike, *, domains: Sequence[str] | None = None) -> Vector:
    """Weights w_j = min(tau_j, s exp(log_score_j)), with the s that makes the sum 1.

    With log_score = log p + estimate / temperature this maximises sum_j w_j estimate_j - temperature KL(w || p) under
    the caps: stationarity of the Lagrangian gives the exponential form below the cap, and the total is increasing and
    continuous in s, so exactly one total is 1. Temperature to 0 is `linear`, to infinity it is p itself, capped.

    Domains reach their caps in the order of log tau_j - log_score_j. Bisecting over that order finds how many are
    capped, and s follows in closed form from the rest. Scores are taken relative to the boundary of the linear
    projection. There s is at most 1, where the domains at and above it are at their caps, and at least room / D with
    the room that those above leave: more than 2^-53 / D. So scores more than 1,000 away decide nothing by their size.

    Args, Returns, Raises: as `linear`, with `log_score` for `estimate`.

    Example:
        >>> relative_entropy([0.0, 0.0, 0.0], [0.2, 1.0, 1.0]).round(3).tolist()
        [0.2, 0.4, 0.4]
    """
    log_score_D, tau_D = _checked(log_score, tau, domains)
    score_D = _relative(log_score_D, _boundary(log_score_D, tau_D), far=1000.0)
    cap_D = np.minimum(tau_D, 1.0)
    order = np.argsort(np.log(cap_D) - score_D)
    cap_sorted, score_sorted = cap_D[order], score_D[order]

    def too_much(k: int) -> bool:
        """Whether the total reaches 1 when s is just high enough to cap domain k of the order.

        No overflow: a domain later in the order is below its own cap at this s, hence below 1.
        """
        log_s = np.log(cap_sorted[k]) - score_sorted[k]
        return bool(cap_sorted[:k].sum() + np.exp(score_sorted[k:] + log_s).sum() >= 1)

    capped = bisect.bisect_left(range(len(order)), True, key=too_much)
    if capped == len(order):
        return cap_D
    room = 1 - math.fsum(cap_sorted[:capped])
    room = room if room > NOTHING else 0.0
    free = order[capped:]
    share = np.exp(score_D[free] - score_D[free].max())
    weight_D = cap_D.copy()
    weight_D[free] = np.minimum(share * (room / math.fsum(share)), cap_D[free])
    return weight_D


def _checked(estimate: ArrayLike, tau: ArrayLike, domains: Sequence[str] | None) -> tuple[Vector, Vector]:
    """Both vectors as float64, or an InputError that names the domains at fault."""
    estimate_D, tau_D = np.asarray(estimate, dtype=np.float64), np.asarray(tau, dtype=np.float64)
    for name, vector in (("estimate", estimate_D), ("tau", tau_D)):
        if vector.ndim != 1 or vector.size == 0:
            raise InputError(f"{name} has shape {vector.shape}: expected one number per domain, at least one domain")
    if estimate_D.size != tau_D.size:
        raise InputError(f"{estimate_D.size} estimates but {tau_D.size} caps (tau): expected one of each per domain")
    if domains is not None and len(domains) != tau_D.size:
        raise InputError(f"{len(domains)} domain names but {tau_D.size} caps (tau): expected one of each per domain")
    _refuse(~np.isfinite(estimate_D), "estimate", estimate_D, "a finite number", domains)
    _refuse(~np.isfinite(tau_D), "cap (tau)", tau_D, "a finite number; 1 means no cap", domains)
    _refuse(tau_D <= 0, "cap (tau)", tau_D, "above 0; leave out domains that may hold nothing", domains)
    total = math.fsum(tau_D)
    if total < 1 - SUM_TOLERANCE:
        raise InputError(
            f"the caps (tau) of {tau_D.size} domains{_some_names(domains)} sum to {total:.12g}: expected at least 1, "
            "otherwise no mixture fits under them"
        )
    return estimate_D, tau_D


def _refuse(
    wrong_D: NDArray[np.bool_], what: str, values_D: Vector, expected: str, domains: Sequence[str] | None
) -> None:
    """Raise for the domains where `wrong_D` holds, naming the first five."""
    places = np.flatnonzero(wrong_D)
    if places.size == 0:
        return
    named = [f"domain {domains[i]!r}" if domains is not None else f"domain number {i}" for i in places[:5]]
    found = ", ".join(f"{name} has {values_D[i]}" for name, i in zip(named, places[:5], strict=True))
    more = f" and {places.size - 5} more" if places.size > 5 else ""
    raise InputError(f"{what}: {found}{more}; expected {expected}")


def _some_names(domains: Sequence[str] | None) -> str:
    """Up to five names in brackets."""
    if domains is None:
        return ""
    return " (" + ", ".join(repr(name) for name in domains[:5]) + (", ..." if len(domains) > 5 else "") + ")"


def _boundary(estimate_D: Vector, tau_D: Vector) -> float:
    """The estimate of the domain at which the caps, summed in decreasing order of estimates, reach 1."""
    order = np.argsort(-estimate_D)
    return float(estimate_D[order[_fill_count(tau_D[order]) - 1]])


def _relative(estimate_D: Vector, origin: float, *, far: float) -> Vector:
    """Estimates less the origin, cut off at a distance beyond which it does not matter how far a domain is."""
    with np.errstate(over="ignore"):  # what overflows float64 is far
        return np.clip(estimate_D - origin, -far, far)


def _fill_count(tau_sorted: Vector) -> int:
    """The least k such that the first k caps sum to 1 less `NOTHING`, by the exactly rounded sum; D where none do.

    A running float64 sum is off by at most D * 2^-53 per unit, which brackets k; exact sums decide inside the bracket.
    """
    full, running = 1 - NOTHING, np.cumsum(tau_sorted)
    slack = len(tau_sorted) * np.finfo(np.float64).eps
    low = int(np.searchsorted(running, full - slack)) + 1
    high = min(int(np.searchsorted(running, full + slack)) + 1, len(tau_sorted))
    low = min(low, high)
    return low + bisect.bisect_left(range(low, high), True, key=lambda k: math.fsum(tau_sorted[:k]) >= full)


def _offset(estimate_D: Vector, cap_D: Vector) -> float:
    """The c with sum(clip(estimate + c, 0, cap)) = 1: the total is piecewise linear in c, with a kink where a domain
    leaves 0 (c = -estimate) or reaches its cap (c = cap - estimate)."""

    def total(c: float) -> float:
        return float(np.clip(estimate_D + c, 0.0, cap_D).sum())

    kinks = np.concatenate([-estimate_D, cap_D - estimate_D])
    kinks.sort()
    right = bisect.bisect_left(range(len(kinks)), True, key=lambda i: total(float(kinks[i])) >= 1 - NOTHING)
    if right == len(kinks):  # every domain at its cap: the caps sum to 1 less a rounding error
        return float(kinks[-1])
    left_c, right_c = float(kinks[max(right - 1, 0)]), float(kinks[right])
    left_total, right_total = total(left_c), total(right_c)
    if right_total <= left_total:
        return right_c
    return left_c + (right_c - left_c) * min((1 - left_total) / (right_total - left_total), 1.0)


def _settled(weight_D: Vector, cap_D: Vector) -> Vector:
    """Spread what rounding left of the sum evenly over the weights between 0 and their cap: one exact Newton step."""
    inside = (weight_D > 0) & (weight_D < cap_D)
    if not inside.any():
        return weight_D
    missing = 1 - math.fsum(weight_D)
    weight_D[inside] += missing / int(inside.sum())
    return np.clip(weight_D, 0.0, cap_D)
