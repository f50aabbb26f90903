"""Caps and token counts: how much of the mixture each domain can fill, and what weights mean in tokens.

Quantities: caps tau_D as shares of the mixture, token counts as integers. Axis letter: D domains.
A cap is what a domain holds, repeated at most `max_epochs` times, over the token budget. Repeating data up to about
four times costs little against fresh data and more than that soon loses its value (Muennighoff et al.,
arXiv 2305.16264), hence the limit of 4. The tokens must be counted on the pool that will be trained on: a stratified
sample knows page lengths, not how much a domain holds.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ppl_assets.errors import InputError, suggestion
from ppl_assets.mixture.projection import SUM_TOLERANCE, Vector

MOST_EPOCHS = 4.0

# Largest budget for which float64 shares of it still tell single tokens apart: the rounding of all shares together,
# 2 * 2^-53 of the budget, stays below half a token.
LARGEST_BUDGET = 2**50


def availability_caps(
    tokens_D: ArrayLike,
    *,
    budget: int,
    max_epochs: float = 1.0,
    overrides: Mapping[str, float] | None = None,
    domains: Sequence[str] | None = None,
) -> Vector:
    """Caps tau_j = epochs_j * tokens_j / budget: the share of the mixture that domain j can fill.

    Args:
        tokens_D: tokens that each of D domains holds, in the tokens in which `budget` is counted.
        budget: tokens of the training run.
        max_epochs: how often a domain may be repeated, above 0 and at most 4.
        overrides: other epochs for single domains, by name; needs `domains`.
        domains: D names.

    Returns:
        D caps, float64; 0 where a domain holds nothing, above 1 where it could fill the whole run.

    Raises:
        InputError: an argument is out of range, an override names no domain, or all domains together hold too little.

    Example:
        >>> availability_caps([60, 90], budget=100, max_epochs=2).tolist()
        [1.2, 1.8]
    """
    held_D = np.asarray(tokens_D, dtype=np.float64)
    if held_D.ndim != 1 or held_D.size == 0:
        raise InputError(f"tokens have shape {held_D.shape}: expected one count per domain, at least one domain")
    bad = np.flatnonzero(~(np.isfinite(held_D) & (held_D >= 0)))
    if bad.size:
        name = repr(domains[bad[0]]) if domains is not None else f"number {bad[0]}"
        raise InputError(f"domain {name} holds {held_D[bad[0]]} tokens: expected a count of 0 or more")
    _check_budget(budget)
    epochs_D = np.full(held_D.size, _checked_epochs("max_epochs", max_epochs), dtype=np.float64)
    if overrides:
        if domains is None:
            raise InputError("overrides of max_epochs are by domain name: expected `domains` as well")
        place = {name: i for i, name in enumerate(domains)}
        for name, epochs in overrides.items():
            if name not in place:
                raise InputError(f"max_epochs is overridden for {name!r}, which is no domain{suggestion(name, place)}")
            epochs_D[place[name]] = _checked_epochs(f"max_epochs of {name!r}", epochs)
    cap_D = epochs_D * held_D / budget
    if math.fsum(cap_D) < 1 - SUM_TOLERANCE:
        raise InputError(_shortage(held_D, epochs_D, budget))
    return cap_D


def integer_tokens(weights: ArrayLike, budget: int) -> NDArray[np.int64]:
    """Whole tokens per domain that sum exactly to the budget: the largest-remainder rounding of weight * budget.

    Every count is its share rounded down or up; a weight of 0 gets no token. Among equal remainders earlier domains
    come first, so give domains in a fixed order.

    Args:
        weights: D non-negative weights whose sum is 1 within 1e-9.
        budget: tokens of the training run, at most 2^50.

    Raises:
        InputError: the weights are not a distribution, or the budget is not a whole number from 1 to 2^50.

    Example:
        >>> integer_tokens([0.5, 0.25, 0.25], 9).tolist()
        [5, 2, 2]
    """
    _check_budget(budget)
    weight_D = np.asarray(weights, dtype=np.float64)
    if weight_D.ndim != 1 or not (np.isfinite(weight_D) & (weight_D >= 0)).all():
        raise InputError("weights must be one finite number of 0 or more per domain")
    total = math.fsum(weight_D)
    if abs(total - 1) > 1e-9:
        raise InputError(f"weights sum to {total!r}: expected 1")
    share_D = weight_D * (budget / total)
    count_D = np.floor(share_D).astype(np.int64)
    missing = int(budget) - int(count_D.sum())
    count_D[np.argsort(count_D - share_D, kind="stable")[:missing]] += 1
    return count_D


def _check_budget(budget: int) -> None:
    if int(budget) != budget or not 1 <= budget <= LARGEST_BUDGET:
        raise InputError(f"the budget is {budget!r} tokens: expected a whole number from 1 to {LARGEST_BUDGET:,}")


def _checked_epochs(what: str, epochs: float) -> float:
    if not 0 < epochs <= MOST_EPOCHS:
        raise InputError(f"{what} is {epochs}: expected a number above 0 and at most {MOST_EPOCHS:g}")
    return epochs


def _shortage(held_D: Vector, epochs_D: Vector, budget: int) -> str:
    """Why no mixture exists, and the nearest budget and number of epochs for which one would."""
    usable, held = math.fsum(epochs_D * held_D), math.fsum(held_D)
    sentence = (
        f"{held_D.size} domains hold {held:,.0f} tokens, which gives {usable:,.0f} under max_epochs, "
        f"but the budget is {budget:,} tokens: lower the budget to at most {math.floor(usable):,}"
    )
    factor = budget / usable if usable > 0 else math.inf
    needed = math.ceil(factor * float(epochs_D.max()) * 100) / 100
    if needed <= MOST_EPOCHS:
        return f"{sentence}, or raise max_epochs to at least {needed:g}"
    return f"{sentence}, or add text (even max_epochs = {MOST_EPOCHS:g} would not be enough)"
