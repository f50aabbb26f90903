"""Shadow prices: what each cap, floor, ceiling and the safety margin costs, so that people know which rule to question.

Quantities: prices as expected estimate per unit of the mixture; the expected estimate of a mixture is the sum of weight
times score. Axis letters: D domains, C domains that compete. Source: the Karush-Kuhn-Tucker conditions. The derivative
of the objective in the chosen part y_j of a weight is score_j (`linear`), score_j - y_j (`l2`) or
score_j - temperature log(y_j / pool_j) (`kl`). It is equal for all domains between nothing and their cap; at its cap a
domain exceeds that by the price of the cap. Prices hold for small changes: relax one rule far enough and another binds.
"""

from dataclasses import dataclass, replace

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.mixture.decision import Candidates, Contest, Mixture, contest
from ppl_assets.mixture.group_bounds import best_within_bounds
from ppl_assets.mixture.objective import Objective
from ppl_assets.mixture.projection import Vector
from ppl_assets.mixture.reasons import percent

# Estimates are correlations: a difference below this is a rounding error of HiGHS or of ours.
FREE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPrice:
    """One rule that binds."""

    rule: str
    """`cap of DOMAIN`, `floor of GROUP`, `ceiling of GROUP` or `safety margin`."""

    price: float
    """Expected estimate gained per unit of the mixture (1 is all of it) by which the rule is relaxed; above 0."""

    sentence: str
    """The same in plain words, for one per cent of the mixture."""


def shadow_prices(
    candidates: Candidates, mixture: Mixture, *, budget: int, objective: Objective | None = None
) -> list[ShadowPrice]:
    """The rules that bind a mixture made by `mix` with the same arguments, the costliest first.

    Empty on a fallback, which optimises nothing.

    Raises:
        InputError: as `mix`; or there are bounds on groups and the projection is not linear.
    """
    objective = objective or Objective()
    if objective.bounds and objective.projection != "linear":
        raise InputError(f"prices of bounds need objective.projection 'linear', found {objective.projection!r}")
    if "fallback" in mixture.decision_D:
        return []
    field = contest(candidates, objective, budget=budget)
    weight_C = mixture.weight_D[field.open_D]
    if objective.bounds:
        excess_C, prices = _under_bounds(field, objective)
    else:
        excess_C, prices = _excess(field, weight_C, objective), []
    excess_D = field.spread(excess_C)
    for i, decision in enumerate(mixture.decision_D):
        if decision == "selected":
            prices.append(_cap_price(candidates.domains[i], candidates.cap_D[i], float(excess_D[i])))
    if objective.safety_margin:
        prices.append(_margin_price(field, weight_C, objective))
    return sorted((price for price in prices if price.price > FREE), key=lambda price: -price.price)


def _excess(field: Contest, weight_C: Vector, objective: Objective) -> Vector:
    """By how much the derivative of each domain passes that of the domains below their caps."""
    margin = objective.safety_margin
    chosen_C = (weight_C - field.kept_C) / (1 - margin) if margin < 1 else np.zeros_like(weight_C)
    taken_C = chosen_C > 1e-12 * field.cap_C
    if not taken_C.any():
        return np.zeros_like(weight_C)
    slope_C = field.score_C.copy()
    if objective.projection == "l2":
        slope_C -= chosen_C
    elif objective.projection == "kl":
        slope_C[taken_C] -= objective.temperature * np.log(chosen_C[taken_C] / field.pool_C[taken_C])
    return slope_C - slope_C[taken_C].min()


def _under_bounds(field: Contest, objective: Objective) -> tuple[Vector, list[ShadowPrice]]:
    """The excess of each domain and the prices of floors and ceilings, from the dual of the linear program."""
    optimum = best_within_bounds(field.score_C, field.kept_C, field.cap_C, objective.bounds, field.member_GC)
    prices = []
    for bound, low, high in zip(objective.bounds, optimum.low_price_R[1:], optimum.high_price_R[1:], strict=True):
        prices.append(_group_price(f"floor of {bound.name}", bound.floor, float(low), "less"))
        prices.append(_group_price(f"ceiling of {bound.name}", bound.ceiling, float(high), "more"))
    row_R = optimum.high_price_R - optimum.low_price_R
    return field.score_C - row_R[0] - field.member_GC.T @ row_R[1:], prices


def _cap_price(domain: str, cap: float, price: float) -> ShadowPrice:
    sentence = (
        f"The cap of {domain} ({percent(cap)} of the mixture) binds: one per cent more of it, in place of the last "
        f"domain chosen, would add {price / 100:.2g} to the expected estimate."
    )
    return ShadowPrice(rule=f"cap of {domain}", price=price, sentence=sentence)


def _group_price(rule: str, share: float, price: float, direction: str) -> ShadowPrice:
    sentence = (
        f"The {rule} ({percent(share)} of the mixture) binds: one per cent {direction} would add {price / 100:.2g} "
        "to the expected estimate."
    )
    return ShadowPrice(rule=rule, price=price, sentence=sentence)


def _margin_price(field: Contest, weight_C: Vector, objective: Objective) -> ShadowPrice:
    """The loss through the whole margin, per unit of margin: exact, not a derivative."""
    margin = objective.safety_margin
    free = replace(field, objective=replace(objective, safety_margin=0.0))
    best_C = free.best(field.score_C)
    lost = float(field.score_C @ (best_C - weight_C))
    sentence = f"The safety margin ({percent(margin)} of the mixture) costs {lost:.2g} of the expected estimate."
    return ShadowPrice(rule="safety margin", price=lost / margin, sentence=sentence)
