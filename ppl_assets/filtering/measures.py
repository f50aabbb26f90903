"""How well scores tell pages to include from the others, with weights per page: areas, rates, calibration.

Weights make the bootstrap cheap: a replicate draws groups of pages and weights each page by how often its group was
drawn, so that nothing is sorted again. Pages of one group are not independent; intervals are percentiles over groups.
"""

from collections.abc import Callable

import numpy as np

Measure = Callable[[np.ndarray], float]


def roc_auc(score_P: np.ndarray, positive_P: np.ndarray) -> Measure:
    """Area under the ROC curve as a function of weights: P(a positive page scores above a negative one), ties half.

    NaN where the weights leave only one kind.
    """
    _, rank_P = np.unique(score_P, return_inverse=True)
    levels = int(rank_P.max(initial=-1)) + 1

    def area(weight_P: np.ndarray) -> float:
        positive_L = np.bincount(rank_P, weight_P * positive_P, minlength=levels)
        negative_L = np.bincount(rank_P, weight_P * ~positive_P, minlength=levels)
        total = positive_L.sum() * negative_L.sum()
        below_L = np.cumsum(negative_L) - negative_L / 2
        return float(positive_L @ below_L / total) if total > 0 else float("nan")

    return area


def precision(chosen_P: np.ndarray, positive_P: np.ndarray) -> Measure:
    """Share of what is chosen that is to be included; NaN where nothing is chosen."""
    return lambda weight_P: _ratio((weight_P * (chosen_P & positive_P)).sum(), (weight_P * chosen_P).sum())


def recall(chosen_P: np.ndarray, positive_P: np.ndarray) -> Measure:
    """Share of what is to be included that is chosen; NaN where nothing is to be included."""
    return lambda weight_P: _ratio((weight_P * (chosen_P & positive_P)).sum(), (weight_P * positive_P).sum())


def f1(chosen_P: np.ndarray, positive_P: np.ndarray) -> Measure:
    """Harmonic mean of precision and recall."""

    def score(weight_P: np.ndarray) -> float:
        both = (weight_P * (chosen_P & positive_P)).sum()
        return _ratio(2 * both, (weight_P * chosen_P).sum() + (weight_P * positive_P).sum())

    return score


def precision_at_budget(
    score_P: np.ndarray, positive_P: np.ndarray, pool_tokens_P: np.ndarray, budget: float
) -> Measure:
    """Share of a token budget's tokens that is to be included, the pages taken in order of score.

    Args:
        pool_tokens_P: tokens of the pool that each page stands for; they sum to the pool's.
        budget: tokens to take, on the pool's scale. The page on the boundary counts in part.
    """
    order_P = np.argsort(-score_P, kind="stable")
    positive_O = positive_P[order_P]

    def share(weight_P: np.ndarray) -> float:
        held_O = (weight_P * pool_tokens_P)[order_P]
        scale = pool_tokens_P.sum() / held_O.sum() if held_O.sum() > 0 else 0.0
        before_O = np.cumsum(held_O * scale) - held_O * scale
        taken_O = np.clip(budget - before_O, 0, held_O * scale)
        return _ratio((taken_O * positive_O).sum(), taken_O.sum())

    return share


def brier(probability_P: np.ndarray, positive_P: np.ndarray) -> Measure:
    """Mean squared difference of probability and truth."""
    square_P = (probability_P - positive_P) ** 2
    return lambda weight_P: _ratio((weight_P * square_P).sum(), weight_P.sum())


def calibration_error(probability_P: np.ndarray, positive_P: np.ndarray, bins: int = 10) -> Measure:
    """Expected calibration error: mean distance of probability and frequency over bins of equal width, by pages."""
    bin_P = np.clip((probability_P * bins).astype(int), 0, bins - 1)

    def distance(weight_P: np.ndarray) -> float:
        gap_B = np.bincount(bin_P, weight_P * (probability_P - positive_P), minlength=bins)
        return _ratio(np.abs(gap_B).sum(), weight_P.sum())

    return distance


def interval(
    measure: Measure,
    group_P: np.ndarray,
    *,
    replicates: int,
    level: float,
    seed: int,
    weight_P: np.ndarray | None = None,
) -> tuple[float, float, float]:
    """The measure, and its percentile interval over groups drawn with replacement; NaN ends where too few are defined.

    `weight_P` says how much each page counts, by default all alike.

    Replicates in which the measure is undefined (one kind of page alone) are left out; of fewer than half of them
    there is no interval.
    """
    groups, index_P = np.unique(group_P, return_inverse=True)
    base_P = np.ones(len(group_P)) if weight_P is None else weight_P
    value = measure(base_P)
    if len(groups) < 2:
        return value, float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    times_RG = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=replicates)
    drawn_R = np.array([measure(times_G[index_P] * base_P) for times_G in times_RG])
    drawn_R = drawn_R[~np.isnan(drawn_R)]
    if len(drawn_R) < replicates / 2:
        return value, float("nan"), float("nan")
    low, high = np.quantile(drawn_R, [(1 - level) / 2, (1 + level) / 2])
    return value, float(low), float(high)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
