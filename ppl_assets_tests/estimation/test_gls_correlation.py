"""Correlation over models that repeat one another: against whitening by hand, literal repetition, and known worlds."""

import warnings
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import ppl_assets.estimation as ours
from ppl_assets.estimation.gls_correlation import PENALTY, replicate_gls
from ppl_assets_tests.estimation.test_rank_correlation import errors_for, matrices, quietly
from ppl_assets_tests.estimation.worlds import World


def scores_by_hand(X: np.ndarray) -> np.ndarray:
    """Gumbel scores with mean 0 and mean square 1 over the models present, column by column; 0 where missing."""
    z = np.zeros(X.shape)
    for d, column in enumerate(X.T):
        here = ~np.isnan(column)
        if here.sum() > 1 and column[here].min() < column[here].max():
            score = scipy.stats.gumbel_l.ppf((scipy.stats.rankdata(column[here]) - 0.5) / here.sum())
            z[here, d] = (score - score.mean()) / score.std()
    return z


def covariance_by_hand(X: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Mean product over texts that differ in ranks or gaps, plus the penalty."""
    n = len(X)
    distinct = {}
    for d in np.flatnonzero(z.any(axis=0)):
        ranks = scipy.stats.rankdata(X[:, d], nan_policy="omit")
        distinct[tuple(np.where(np.isnan(ranks), -1, ranks))] = z[:, d]
    K = sum(np.outer(score, score) for score in distinct.values()) / len(distinct)
    centred = K - K.mean(axis=0) - K.mean(axis=1)[:, None] + K.mean()
    return K + PENALTY * np.trace(centred) / min(n - 1, len(distinct)) * np.eye(n)


def whitened_correlation(a: np.ndarray, b: np.ndarray, covariance: np.ndarray) -> float:
    """Correlation of the residuals of a and b on a constant, after whitening all three."""
    half = np.linalg.inv(np.linalg.cholesky(covariance))
    one, a, b = half @ np.ones(len(a)), half @ a, half @ b
    a, b = a - one * (one @ a) / (one @ one), b - one * (one @ b) / (one @ one)
    return a @ b / np.sqrt((a @ a) * (b @ b))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_it_is_the_correlation_of_whitened_scores_over_the_models_present(data):
    X = data.draw(matrices())
    y = data.draw(errors_for(len(X)))
    found, z = quietly("gls", X, y), scores_by_hand(X)
    if not z.any() or y.min() == y.max():
        assert np.isnan(found).all()
        return
    covariance, target = covariance_by_hand(X, z), scipy.stats.norm.ppf((scipy.stats.rankdata(y) - 0.5) / len(y))
    for d in range(X.shape[1]):
        here = ~np.isnan(X[:, d])
        if not z[:, d].any() or y[here].min() == y[here].max():
            assert np.isnan(found[d])
            continue
        expected = whitened_correlation(z[here, d], target[here], covariance[np.ix_(here, here)])
        # Systems of at most 9 models, whose condition the penalty keeps near 10.
        np.testing.assert_allclose(found[d], expected, rtol=0, atol=1e-10)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_copies_of_some_texts_change_no_estimate(data):
    X = data.draw(matrices())
    y = data.draw(errors_for(len(X)))
    copied = np.array(data.draw(st.lists(st.integers(0, X.shape[1] - 1), min_size=1, max_size=4)))
    plain, longer = quietly("gls", X, y), quietly("gls", np.hstack([X, 2 * X[:, copied] + 1]), y)
    # The distinct texts are summed in another order.
    np.testing.assert_allclose(longer, np.concatenate([plain, plain[copied]]), rtol=0, atol=1e-12)


def test_an_error_ordered_and_spaced_like_a_text_has_correlation_one():
    rng = np.random.default_rng(0)
    X = rng.random((20, 6))
    X[:, 2] = np.arange(20) % 2  # with two values, every score is a straight line of every other
    assert ours.gls(X, X[:, 2])[2] == pytest.approx(1, abs=1e-12)
    assert ours.gls(X, -X[:, 2])[2] == pytest.approx(-1, abs=1e-12)


def test_replicates_are_models_repeated_as_often_as_drawn():
    rng = np.random.default_rng(1)
    X, y = rng.random((12, 7)), rng.random(12)
    weights = rng.multinomial(12, np.full(12, 1 / 12), size=10).T.astype(np.float32)
    found = np.concatenate(list(replicate_gls(X, y, weights)))
    z, target = scores_by_hand(X), scipy.stats.norm.ppf((scipy.stats.rankdata(y) - 0.5) / 12)
    for r in range(10):
        drawn = np.repeat(np.arange(12), weights[:, r].astype(int))
        K = z[drawn] @ z[drawn].T / 7
        centred = K - K.mean(axis=0) - K.mean(axis=1)[:, None] + K.mean()
        covariance = K + PENALTY * np.trace(centred) / 7 * np.eye(12)
        expected = [whitened_correlation(z[drawn, d], target[drawn], covariance) for d in range(7)]
        # float32 sums of 78 products.
        np.testing.assert_allclose(found[:, r], expected, rtol=0, atol=2e-5)


def test_a_replicate_of_everyone_once_is_the_estimate_with_gaps_too():
    rng = np.random.default_rng(2)
    X, y = rng.random((15, 40)), rng.random(15)
    X[rng.random(X.shape) < 0.2] = np.nan
    (found,) = replicate_gls(X, y, np.ones((15, 1), np.float32))
    np.testing.assert_allclose(found[:, 0], ours.gls(X, y), rtol=0, atol=2e-5)


def test_blocks_of_a_file_give_the_estimates_of_the_whole(tmp_path):
    rng = np.random.default_rng(3)
    X, y = rng.random((5, 700)), rng.random(5)
    X[2, 7] = np.nan
    models = [f"m{k}" for k in range(5)]
    columns = {name: pa.array(row, from_pandas=True) for name, row in zip(models, X, strict=True)}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    alike = ours.likeness(ours.parquet_blocks(tmp_path / "x.parquet", models, rows=300))
    blocks = ours.parquet_blocks(tmp_path / "x.parquet", models, rows=300)
    found = ours.estimate_blocks(blocks, y, partial(ours.gls_given, alike=alike))
    # The same sums by blocks of other sizes.
    np.testing.assert_allclose(found, ours.gls(X, y), rtol=0, atol=1e-12)
    # Ranks of five models: the texts are as many as their distinct orders and gaps.
    assert alike.distinct == len({tuple(np.where(np.isnan(c), -1, scipy.stats.rankdata(c))) for c in X.T})


def test_without_any_text_that_varies_nothing_is_known():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isnan(ours.gls(np.ones((5, 3)), np.arange(5.0))).all()


@pytest.mark.parametrize("law", ["gaussian", "mixture"])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_more_planted_domains_are_found_than_by_spearman(law, missing):
    gained = []
    for seed in range(12):
        pool = World(law=law, missing=missing, seed=seed).draw(np.random.default_rng(seed))
        planted = pool.planted_D > 0
        top = {name: np.argsort(-quietly(name, pool.bpb_MD, pool.error_M))[:20] for name in ("gls", "spearmanr")}
        gained.append(planted[top["gls"]].mean() - planted[top["spearmanr"]].mean())
    # The gain is about 0.08 with a standard deviation of 0.09 over pools: twelve without a gain are 3 errors away.
    assert np.mean(gained) > 0
