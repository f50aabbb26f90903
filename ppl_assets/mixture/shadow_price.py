"""Shadow prices: what each cap, floor, ceiling, the bound on churn and the safety margin costs, so that people know
which rule to question.

Quantities: prices as expected estimate per unit of the mixture; the expected estimate of a mixture is the sum of weight
times score. Of a mixture for the worst case, prices are in the gain of the target that it serves worst. Axis letters: D
domains, C domains that compete, G bounds, R rows: the sum of all weights, then the bounds that bind.
Source: the Karush-Kuhn-Tucker conditions. The derivative of the objective in the chosen part y_j of a weight is score_j
(`linear`), score_j - y_j (`l2`) or score_j - temperature log(y_j / pool_j) (`kl`), plus what the bounds on its groups
add, and it is equal for all free domains, those between nothing and their cap. So when a rule is relaxed the free
domains give way in proportion to 1 (`l2`) or y_j (`kl`), plus what keeps the rows that bind as they were. Multipliers
of these two objectives are no prices: they count nearness to the estimates, or to the pool, as well.
Prices hold for small changes, the safety margin staying as it is: relax one rule far enough and another binds. A bound
that free domains cannot follow has none: a floor of all that a group holds is its caps' as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ppl_assets.mixture.decision import FULL, Candidates, Contest, Mixture, contest
from ppl_assets.mixture.group_bounds import Bounded, GroupBound
from ppl_assets.mixture.objective import Objective, bound_multipliers
from ppl_assets.mixture.projection import Vector
from ppl_assets.mixture.reasons import percent
from ppl_assets.mixture.several_targets import Yardstick, mean_candidates
from ppl_assets.mixture.stability import ChurnBound
from ppl_assets.mixture.worst_case import worst_case

ESTIMATE = "the expected estimate"
SMALLEST_GAIN = "the gain of the target served worst"

# Estimates are correlations: a difference below this is a rounding error of HiGHS or of ours.
FREE = 1e-9
# Of a response of free domains, relative to the largest: what is smaller is none.
ROUNDING = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPrice:
    """One rule that binds."""

    rule: str
    """`cap of DOMAIN`, `floor of GROUP`, `ceiling of GROUP`, `bound on churn` or `safety margin`."""

    price: float
    """Expected estimate gained per unit of the mixture (1 is all of it) by which the rule is relaxed; above 0.

    A rule that binds without a gain is none: `l2` and `kl` may take of a domain for other reasons than its estimate.
    """

    sentence: str
    """The same in plain words, for one per cent of the mixture."""


def shadow_prices(
    candidates: Candidates, mixture: Mixture, *, budget: int, objective: Objective | None = None
) -> list[ShadowPrice]:
    """The rules that bind a mixture made by `mix` with the same arguments, the costliest first.

    Empty on a fallback, which optimises nothing.

    Raises:
        InputError: as `mix`.
    """
    objective = objective or Objective()
    if "fallback" in mixture.decision_D:
        return []
    field = contest(candidates, objective, budget=budget)
    weight_C = mixture.weight_D[field.open_D]
    free = replace(field, objective=replace(objective, safety_margin=0.0))
    lost = float(field.score_C @ (free.chosen_C - weight_C)) if objective.safety_margin else 0.0
    best = field.bounded or _by_projection(field, weight_C, objective)
    return _prices(mixture, field, best, lost=lost, worth=ESTIMATE)


def worst_case_prices(
    by_target: Mapping[str, Candidates],
    mixture: Mixture,
    *,
    budget: int,
    preference: Mapping[str, float] | None = None,
    objective: Objective | None = None,
) -> list[ShadowPrice]:
    """The rules that bind a mixture made by `mix_worst_case` with the same arguments, the costliest first.

    Where targets differ in weight, a price is that of the largest weighted shortfall.

    Raises:
        InputError: as `mix_worst_case`.
    """
    objective = objective or Objective()
    if "fallback" in mixture.decision_D:
        return []
    field = contest(mean_candidates(by_target, preference), objective, budget=budget)
    best, smallest = worst_case(by_target, field, objective, preference)
    lost = 0.0
    if objective.safety_margin:
        unkept = replace(objective, safety_margin=0.0)
        free = replace(field, objective=unkept)
        free_weight_C = worst_case(by_target, free, unkept, preference)[0].weight_D
        lost = float(np.nanmin(Yardstick.within(by_target, field, objective).gain_of(free_weight_C))) - smallest
    return _prices(mixture, field, best, lost=lost, worth=SMALLEST_GAIN)


def _by_projection(field: Contest, weight_C: Vector, objective: Objective) -> Bounded:
    """Prices of what a projection found: how the expected estimate changes as free domains give way."""
    multiplier_G = np.zeros(len(objective.bounds))
    if objective.bounds:
        multiplier_G = bound_multipliers(
            field.score_C, field.pool_C, field.kept_C, field.cap_C, field.member_GC, objective
        )
    binds_G = multiplier_G != 0
    rows_RC = np.vstack([np.ones_like(weight_C), field.member_GC[binds_G]])
    give_C = _give(field, weight_C, multiplier_G @ field.member_GC, objective)
    response_RR = (rows_RC * give_C) @ rows_RC.T
    inverse_RR = np.linalg.pinv(response_RR, rcond=ROUNDING, hermitian=True)
    price_R = inverse_RR @ (rows_RC * give_C) @ field.score_C
    # What free domains cannot do: a share that none of them can change, or none without another.
    held_RR = response_RR @ inverse_RR - np.eye(len(rows_RC))
    moves_G = np.zeros(len(objective.bounds), dtype=bool)
    moves_G[binds_G] = np.abs(held_RR[:, 1:]).max(axis=0) < FREE
    price_G = np.zeros(len(objective.bounds))
    price_G[binds_G] = price_R[1:]
    return Bounded(
        weight_D=weight_C,
        bounds=objective.bounds,
        floor_price_G=np.where(moves_G & (multiplier_G > 0), -price_G, 0.0),
        ceiling_price_G=np.where(moves_G & (multiplier_G < 0), price_G, 0.0),
        excess_D=np.where(np.abs(held_RR @ rows_RC).max(axis=0) < FREE, field.score_C - price_R @ rows_RC, 0.0),
    )


def _give(field: Contest, weight_C: Vector, bonus_C: Vector, objective: Objective) -> Vector:
    """How readily the free domains give way, next to each other; 0 for the others.

    Where every domain chosen fills its cap, the one whose derivative is the least gives way first.
    """
    margin = objective.safety_margin
    chosen_C = (weight_C - field.kept_C) / (1 - margin) if margin < 1 else np.zeros_like(weight_C)
    taken_C = chosen_C > 1e-12 * field.cap_C
    free_C = taken_C & (weight_C < FULL * field.cap_C)
    if taken_C.any() and not free_C.any():
        slope_C = np.where(taken_C, _slope(field, chosen_C, taken_C, objective) + bonus_C, np.inf)
        free_C = slope_C == slope_C.min()
    return np.where(free_C, chosen_C if objective.projection == "kl" else 1.0, 0.0)


def _slope(field: Contest, chosen_C: Vector, taken_C: NDArray[np.bool_], objective: Objective) -> Vector:
    """The derivative of the objective in the chosen part of every domain that is taken."""
    slope_C = field.score_C.copy()
    if objective.projection == "l2":
        slope_C -= chosen_C
    elif objective.projection == "kl":
        slope_C[taken_C] -= objective.temperature * np.log(chosen_C[taken_C] / field.pool_C[taken_C])
    return slope_C


def _prices(mixture: Mixture, field: Contest, best: Bounded, *, lost: float, worth: str) -> list[ShadowPrice]:
    """What binds, in words."""
    prices = []
    for bound, low, high in zip(best.bounds, best.floor_price_G, best.ceiling_price_G, strict=True):
        prices.append(_group_price(f"floor of {bound.name}", bound.floor, float(low), "less", worth))
        prices.append(_group_price(_ceiling(bound), bound.ceiling, float(high), "more", worth))
    excess_D = field.spread(best.excess_D)
    for i, decision in enumerate(mixture.decision_D):
        if decision == "selected":
            others = "the last domain chosen" if field.objective.projection == "linear" else "domains below their caps"
            prices.append(_cap_price(mixture.domains[i], mixture.cap_D[i], float(excess_D[i]), others, worth))
    if field.objective.safety_margin:
        prices.append(_margin_price(field.objective.safety_margin, lost, worth))
    return sorted((price for price in prices if price.price > FREE), key=lambda price: -price.price)


def _ceiling(bound: GroupBound) -> str:
    return "bound on churn" if isinstance(bound, ChurnBound) else f"ceiling of {bound.name}"


def _cap_price(domain: str, cap: float, price: float, others: str, worth: str) -> ShadowPrice:
    sentence = (
        f"The cap of {domain} ({percent(cap)} of the mixture) binds: one per cent more of it, in place of {others}, "
        f"would add {price / 100:.2g} to {worth}."
    )
    return ShadowPrice(rule=f"cap of {domain}", price=price, sentence=sentence)


def _group_price(rule: str, share: float, price: float, direction: str, worth: str) -> ShadowPrice:
    sentence = (
        f"The {rule} ({percent(share)} of the mixture) binds: one per cent {direction} would add {price / 100:.2g} "
        f"to {worth}."
    )
    return ShadowPrice(rule=rule, price=price, sentence=sentence)


def _margin_price(margin: float, lost: float, worth: str) -> ShadowPrice:
    """The loss through the whole margin, per unit of margin: exact, not a derivative."""
    sentence = f"The safety margin ({percent(margin)} of the mixture) costs {lost:.2g} of {worth}."
    return ShadowPrice(rule="safety margin", price=lost / margin, sentence=sentence)
