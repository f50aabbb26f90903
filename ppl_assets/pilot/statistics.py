"""Paired differences between arms: intervals over seeds, and over seeds and tasks; power; trend over sizes; ranks.

Axes: S seeds, T tasks, Z sizes, A arms. A seed fixes initial weights and page order in every arm alike, so arms are
compared seed by seed, and what a seed adds to all arms alike drops out.

What an interval assumes: that the S paired differences are independent draws of a normal distribution. With three
seeds there are two degrees of freedom, the interval is 2.9 standard errors wide on either side at 90 % (1.6 for a
normal distribution with known variance), and nothing can be said about whether they are normal. It holds for the tasks
and questions at hand; `crossed_interval` is the one for other tasks of the kind.
"""

import math
from dataclasses import dataclass

import numpy as np

from ppl_assets.errors import InputError

# More seeds than anybody runs: beyond it the difference seen is as good as none.
MOST_SEEDS = 10_000
# Noncentrality beyond which a test does not reject on the wrong side (chance below 1e-9), where scipy answers NaN.
_ONE_SIDED = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean difference; `low`, `high` and the two-sided `p_value` (of no difference) are None without an interval."""

    mean: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


def relative_gains(reference_ST: np.ndarray, arm_ST: np.ndarray) -> np.ndarray:
    """By how much an arm's errors lie below the reference's, in per cent of the reference's mean over seeds [S, T].

    The denominator is the same for all seeds and arms, so that tasks in different units can be averaged and paired
    differences stay paired; that it is itself a mean over seeds is left out of account.

    Raises:
        InputError: a task on which the reference makes no error.
    """
    scale_T = reference_ST.mean(axis=0)
    if (scale_T <= 0).any():
        raise InputError("pilot: found a task on which the reference makes no error, expected one that can be improved")
    return 100 * (reference_ST - arm_ST) / scale_T


def paired_interval(difference_S: np.ndarray, *, level: float) -> Interval:
    """Student's t interval of the mean of paired differences over seeds; of one seed there is no interval.

    Differences that are all the same have a spread of 0, and an interval that is a point.
    """
    mean, seeds = float(difference_S.mean()), len(difference_S)
    if seeds < 2:
        return Interval(mean=mean)
    return _t_interval(mean, float(difference_S.var(ddof=1)) / seeds, seeds - 1, level)


def crossed_interval(difference_ST: np.ndarray, *, level: float) -> Interval:
    """Interval of the mean difference where seeds and tasks are both draws from more of their kind.

    Two-way crossed random effects without replication: var(mean) = (MS_seeds + MS_tasks - MS_rest) / (S T), degrees of
    freedom by Satterthwaite (Biometrics Bulletin 2, 1946). Where the rest is so large that this falls below what one of
    the two alone gives, the larger of those is taken, with its own degrees of freedom. Of one seed or one task there is
    no interval.
    """
    seeds, tasks = difference_ST.shape
    mean = float(difference_ST.mean())
    if seeds < 2 or tasks < 2:
        return Interval(mean=mean)
    by_seed_S, by_task_T = difference_ST.mean(axis=1), difference_ST.mean(axis=0)
    rest_ST = difference_ST - by_seed_S[:, None] - by_task_T + mean
    of_seeds, of_tasks = float(tasks * by_seed_S.var(ddof=1)), float(seeds * by_task_T.var(ddof=1))
    freedom = (seeds - 1) * (tasks - 1)
    rest = float((rest_ST**2).sum()) / freedom
    both = of_seeds + of_tasks - rest
    alone, alone_freedom = max((of_seeds, seeds - 1), (of_tasks, tasks - 1))
    if both <= alone:
        return _t_interval(mean, alone / (seeds * tasks), alone_freedom, level)
    spread = of_seeds**2 / (seeds - 1) + of_tasks**2 / (tasks - 1) + rest**2 / freedom
    return _t_interval(mean, both / (seeds * tasks), both**2 / spread, level)


def seeds_needed(difference_S: np.ndarray, *, level: float, power: float) -> int | None:
    """The fewest seeds whose paired t-test at 1 - `level`, two-sided, shows the difference seen with this power.

    Takes mean and standard deviation of the differences at hand for the true ones (noncentral t distribution), which
    of three seeds is a rough guess. None for one seed, for no difference, and where `MOST_SEEDS` are not enough.
    """
    if len(difference_S) < 2 or difference_S.mean() == 0:
        return None
    mean, spread = abs(float(difference_S.mean())), float(difference_S.std(ddof=1))
    if spread == 0:
        return 2
    low, high = 2, 2
    while _power(high, mean / spread, level) < power:
        low, high = high, 2 * high
        if high > 2 * MOST_SEEDS:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, mean / spread, level) >= power else (middle + 1, high)
    return high if high <= MOST_SEEDS else None


def trend(x_Z: np.ndarray, difference_SZ: np.ndarray, *, level: float) -> Interval:
    """Slope of the difference over `x` (the logarithm of a size): least squares of each seed, then a t interval.

    Seeds are what is drawn; with two sizes a seed's slope is its difference of differences over that of `x`, and
    whether a straight line fits cannot be seen.
    """
    centred_Z = x_Z - x_Z.mean()
    slope_S = difference_SZ @ centred_Z / (centred_Z @ centred_Z)
    return paired_interval(slope_S, level=level)


def average_ranks(error_AT: np.ndarray) -> np.ndarray:
    """Each arm's rank by error (1 is best, ties share their mean rank), averaged over columns [A]."""
    from scipy.stats import rankdata

    return rankdata(error_AT, axis=0).mean(axis=1)


def false_discovery(p_values: list[float | None]) -> list[float | None]:
    """Benjamini-Hochberg q-values of those p-values that are known."""
    from scipy.stats import false_discovery_control

    known = [value for value in p_values if value is not None]
    adjusted = iter(false_discovery_control(known).tolist() if known else [])
    return [None if value is None else next(adjusted) for value in p_values]


def _t_interval(mean: float, variance: float, freedom: float, level: float) -> Interval:
    from scipy.stats import t

    error = math.sqrt(variance)
    half = float(t.ppf((1 + level) / 2, freedom)) * error
    certain = 1.0 if mean == 0 else 0.0  # without spread
    p_value = float(2 * t.sf(abs(mean) / error, freedom)) if error > 0 else certain
    return Interval(mean=mean, low=mean - half, high=mean + half, p_value=p_value)


def _power(seeds: int, effect: float, level: float) -> float:
    """Chance that a two-sided paired t-test of `seeds` differences with mean `effect` x their spread rejects."""
    from scipy.stats import nct, t

    noncentrality = effect * math.sqrt(seeds)
    critical = float(t.ppf((1 + level) / 2, seeds - 1))
    wrong_side = nct.cdf(-critical, seeds - 1, noncentrality) if noncentrality < _ONE_SIDED else 0.0
    return float(nct.sf(critical, seeds - 1, noncentrality) + wrong_side)
