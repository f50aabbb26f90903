"""The pilot's statistics against scipy, brute force and simulation."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from ppl_assets.errors import InputError
from ppl_assets.pilot.statistics import (
    MOST_SEEDS,
    average_ranks,
    crossed_interval,
    false_discovery,
    paired_interval,
    relative_gains,
    seeds_needed,
    trend,
)

REALS = st.floats(-100, 100).map(lambda value: round(value, 3))


@given(st.lists(REALS, min_size=2, max_size=8), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_paired_interval_is_scipys(differences, level):
    difference_S = np.array(differences)
    found = paired_interval(difference_S, level=level)
    if difference_S.std() < 1e-9:
        assert found.low == pytest.approx(found.mean, abs=1e-6)
        return
    oracle = scipy.stats.ttest_1samp(difference_S, 0)
    low, high = oracle.confidence_interval(level)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p_value == pytest.approx(oracle.pvalue)


def test_a_gain_pairs_seeds_so_that_what_a_seed_adds_to_both_arms_drops_out():
    rng = np.random.default_rng(0)
    reference_ST = rng.uniform(1, 2, (5, 1))
    of_seed = rng.normal(0, 10, (5, 1))
    apart = paired_interval((reference_ST - (reference_ST - 0.1))[:, 0], level=0.9)
    shifted = paired_interval(((reference_ST + of_seed) - (reference_ST - 0.1 + of_seed))[:, 0], level=0.9)
    assert (apart.low, apart.high) == pytest.approx((shifted.low, shifted.high), abs=1e-9)


def test_gains_are_per_cent_of_the_references_mean_and_do_not_depend_on_a_tasks_unit():
    reference_ST, arm_ST = np.array([[2.0, 0.5], [4.0, 0.7]]), np.array([[1.0, 0.4], [4.0, 0.7]])
    gain_ST = relative_gains(reference_ST, arm_ST)
    np.testing.assert_allclose(gain_ST, [[100 / 3, 100 * 0.1 / 0.6], [0, 0]])
    np.testing.assert_allclose(relative_gains(reference_ST * [1, 7], arm_ST * [1, 7]), gain_ST)


def test_a_reference_without_error_cannot_be_improved():
    with pytest.raises(InputError, match="makes no error"):
        relative_gains(np.zeros((2, 1)), np.ones((2, 1)))


def test_one_seed_has_no_interval_and_one_task_none_over_tasks():
    assert paired_interval(np.array([1.0]), level=0.9).low is None
    assert crossed_interval(np.ones((3, 1)), level=0.9).low is None
    assert crossed_interval(np.ones((1, 3)), level=0.9).low is None


def test_mean_squares_over_seeds_and_tasks_are_those_of_a_two_way_analysis_of_variance():
    """By brute force: sums of squares of every cell about its seed, task and grand mean (balanced ANOVA)."""
    difference_ST = np.random.default_rng(3).normal(size=(4, 3)) + np.arange(4)[:, None] + 2 * np.arange(3)
    S, T = difference_ST.shape
    grand = difference_ST.mean()
    seeds = T * sum((difference_ST[s].mean() - grand) ** 2 for s in range(S)) / (S - 1)
    tasks = S * sum((difference_ST[:, t].mean() - grand) ** 2 for t in range(T)) / (T - 1)
    rest = sum(
        (difference_ST[s, t] - difference_ST[s].mean() - difference_ST[:, t].mean() + grand) ** 2
        for s, t in itertools.product(range(S), range(T))
    ) / ((S - 1) * (T - 1))
    variance = (seeds + tasks - rest) / (S * T)
    freedom = (seeds + tasks - rest) ** 2 / (seeds**2 / (S - 1) + tasks**2 / (T - 1) + rest**2 / ((S - 1) * (T - 1)))
    found = crossed_interval(difference_ST, level=0.9)
    half = scipy.stats.t.ppf(0.95, freedom) * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((grand - half, grand + half))


@pytest.mark.parametrize(("of_seed", "of_task"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0)])
def test_intervals_over_seeds_and_tasks_hold_the_truth_as_often_as_they_say(of_seed, of_task):
    rng, S, T, repetitions = np.random.default_rng(7), 4, 4, 1500
    held = 0
    for _ in range(repetitions):
        cell_ST = of_seed * rng.normal(size=(S, 1)) + of_task * rng.normal(size=(1, T)) + rng.normal(size=(S, T))
        found = crossed_interval(cell_ST, level=0.9)
        held += found.low <= 0 <= found.high
    # At least what is said, four binomial standard errors aside; the interval errs on the wide side.
    assert held / repetitions > 0.9 - 4 * math.sqrt(0.09 / repetitions)


def test_three_seeds_hold_the_truth_as_often_as_they_say():
    rng, repetitions = np.random.default_rng(5), 4000
    intervals = [paired_interval(rng.normal(1, 2, 3), level=0.9) for _ in range(repetitions)]
    held = np.mean([each.low <= 1 <= each.high for each in intervals])
    assert held == pytest.approx(0.9, abs=4 * math.sqrt(0.09 / repetitions))


@pytest.mark.parametrize("difference", [[1.0, 0.2, 1.9], [0.5, -0.4, 1.1], [2.0, 2.5, 2.2]])
def test_the_seeds_needed_reach_the_power_and_one_fewer_does_not(difference):
    """By simulation: seeds drawn anew from a normal distribution with the mean and spread seen."""
    difference_S = np.array(difference)
    needed = seeds_needed(difference_S, level=0.9, power=0.8)

    def power(seeds: int) -> float:
        drawn = np.random.default_rng(1).normal(difference_S.mean(), difference_S.std(ddof=1), (20_000, seeds))
        return float((scipy.stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.1).mean())

    margin = 4 * math.sqrt(0.16 / 20_000)
    assert power(needed) > 0.8 - margin
    assert needed == 2 or power(needed - 1) < 0.8 + margin


@given(st.floats(0.01, 1e6), st.floats(0.05, 100))
def test_more_of_a_difference_needs_no_more_seeds(mean, spread):
    shape_S = np.array([-1.0, 0.0, 1.0])
    few = seeds_needed(2 * mean + spread * shape_S, level=0.9, power=0.8)
    many = seeds_needed(mean + spread * shape_S, level=0.9, power=0.8)
    assert few is not None or many is None
    assert few is None or many is None or few <= many <= MOST_SEEDS


def test_seeds_needed_of_nothing():
    assert seeds_needed(np.array([1.0]), level=0.9, power=0.8) is None
    assert seeds_needed(np.array([-1.0, 1.0]), level=0.9, power=0.8) is None
    assert seeds_needed(np.array([-1.0, 1.0001]), level=0.9, power=0.8) is None
    assert seeds_needed(np.array([1.0, 1.0]), level=0.9, power=0.8) == 2
    assert seeds_needed(np.array([1e9, 1e9 + 1, 1e9]), level=0.9, power=0.8) == 2


def test_a_trend_is_the_mean_of_each_seeds_least_squares_slope():
    x_Z, difference_SZ = np.array([1.0, 2.0, 4.0]), np.random.default_rng(2).normal(size=(3, 3))
    slopes = [scipy.stats.linregress(x_Z, difference_Z).slope for difference_Z in difference_SZ]
    low, high = scipy.stats.ttest_1samp(slopes, 0).confidence_interval(0.9)
    found = trend(x_Z, difference_SZ, level=0.9)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(slopes), low, high))


def test_average_ranks_share_ties():
    error_AT = np.array([[0.1, 0.5], [0.2, 0.5], [0.3, 0.1]])
    np.testing.assert_allclose(average_ranks(error_AT), [(1 + 2.5) / 2, (2 + 2.5) / 2, (3 + 1) / 2])


def test_false_discoveries_leave_out_what_has_no_p_value():
    known = scipy.stats.false_discovery_control([0.01, 0.2, 0.03])
    assert false_discovery([0.01, None, 0.2, 0.03]) == [known[0], None, known[1], known[2]]
    assert false_discovery([None]) == [None]
