"""Measures and calibration against scikit-learn, brute force and known truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, f1_score, precision_score, recall_score, roc_auc_score

from ppl_assets.filtering import measures
from ppl_assets.filtering.calibration import Calibration

ONES = np.ones
SCORES = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40)


@given(SCORES)
def test_weighted_area_is_the_share_of_pairs_in_order_ties_half(rows):
    score, positive, weight = (np.array(column) for column in zip(*rows, strict=True))
    found = measures.roc_auc(score, positive)(weight)
    pairs = [
        (weight[i] * weight[j], (score[i] > score[j]) + 0.5 * (score[i] == score[j]))
        for i in np.flatnonzero(positive)
        for j in np.flatnonzero(~positive)
    ]
    total = sum(size for size, _ in pairs)
    if total == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(sum(size * order for size, order in pairs) / total)


def test_measures_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    positive, score = rng.random(300) < 0.3, rng.random(300)
    score[positive] += 0.2
    chosen, probability = score > 0.6, np.clip(score, 0, 1)
    assert measures.roc_auc(score, positive)(ONES(300)) == pytest.approx(roc_auc_score(positive, score))
    assert measures.precision(chosen, positive)(ONES(300)) == pytest.approx(precision_score(positive, chosen))
    assert measures.recall(chosen, positive)(ONES(300)) == pytest.approx(recall_score(positive, chosen))
    assert measures.f1(chosen, positive)(ONES(300)) == pytest.approx(f1_score(positive, chosen))
    assert measures.brier(probability, positive)(ONES(300)) == pytest.approx(brier_score_loss(positive, probability))


def test_precision_at_budget_counts_tokens_in_order_of_score_and_the_last_page_in_part():
    score, positive = np.array([3.0, 2.0, 1.0]), np.array([True, False, True])
    found = measures.precision_at_budget(score, positive, np.array([10.0, 20.0, 70.0]), 15.0)(ONES(3))
    assert found == pytest.approx(10 / 15)
    # A page drawn twice stands for twice as much, and the pool keeps its size.
    doubled = measures.precision_at_budget(score, positive, np.array([10.0, 20.0, 70.0]), 15.0)(np.array([2, 1, 1.0]))
    assert doubled == pytest.approx(1.0)


def test_what_is_undefined_is_nan_not_zero():
    nothing, some = np.zeros(4, dtype=bool), np.array([True, False, True, False])
    assert np.isnan(measures.precision(nothing, some)(ONES(4)))
    assert np.isnan(measures.recall(some, nothing)(ONES(4)))
    assert np.isnan(measures.roc_auc(np.arange(4.0), nothing)(ONES(4)))


def test_calibration_error_is_the_distance_of_probability_and_frequency():
    positive = np.array([True] * 6 + [False] * 4)
    assert measures.calibration_error(np.full(10, 0.6), positive)(ONES(10)) == pytest.approx(0)
    assert measures.calibration_error(np.full(10, 0.9), positive)(ONES(10)) == pytest.approx(0.3)


def test_intervals_over_groups_cover_the_truth_where_pages_of_a_group_are_alike():
    """Pages taken as independent would give intervals a fifth as wide, which cover about a third of the time."""
    rng, truth, hits = np.random.default_rng(0), 0.5, 0
    for seed in range(100):
        group = np.repeat(np.arange(30), 25)
        positive = np.repeat(rng.random(30) < truth, 25)
        found = measures.precision(np.ones(750, dtype=bool), positive)
        _, low, high = measures.interval(found, group, replicates=200, level=0.9, seed=seed)
        hits += low <= truth <= high
    # 90 expected with a standard error of 3, less what a percentile interval over 30 groups lacks.
    assert 78 <= hits <= 99


def test_one_group_has_no_interval():
    found = measures.precision(np.ones(5, dtype=bool), np.ones(5, dtype=bool))
    value, low, high = measures.interval(found, np.zeros(5), replicates=50, level=0.9, seed=0)
    assert value == 1
    assert np.isnan([low, high]).all()


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=60))
def test_calibration_is_isotonic_regression(rows):
    logit, positive = np.array([float(row[0]) for row in rows]), np.array([row[1] for row in rows])
    asked = np.linspace(-4, 4, 33)
    expected = IsotonicRegression(out_of_bounds="clip").fit(logit, positive).predict(asked)
    found = Calibration.fit(logit, positive)
    assert found.probability(asked) == pytest.approx(expected, abs=1e-9)
    assert len(found.logits) <= len(set(logit.tolist()))


def test_calibration_makes_overconfident_scores_honest():
    rng = np.random.default_rng(0)
    truth = rng.random(4000)
    positive, logit = rng.random(4000) < truth, 5 * np.log(truth / (1 - truth))
    curve = Calibration.fit(logit[:2000], positive[:2000])
    held_out = curve.probability(logit[2000:])
    error = measures.calibration_error(held_out, positive[2000:])(ONES(2000))
    before = measures.calibration_error(1 / (1 + np.exp(-logit[2000:])), positive[2000:])(ONES(2000))
    assert error < 0.05 < 0.1 < before
