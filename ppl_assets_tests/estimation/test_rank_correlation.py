"""The estimators against scipy, the published package, and a literal double loop over model pairs."""

import warnings

import numpy as np
import perplexity_correlations.estimation as published
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ppl_assets.estimation as ours
from ppl_assets.errors import InputError
from ppl_assets_tests.estimation.published import needs_public_models, public_models

SHARED = ("product", "sign", "sign_cdf", "sign_sign", "spearmanr")
RANKED = ("sign_cdf", "sign_sign", "spearmanr", "kendall", "gumbel", "gls")
# Gumbel scores are summed as floats: at most 9 terms below 4. GLS solves systems whose condition is at most about 10.
ROUNDING = {"gumbel": 1e-14, "gls": 1e-12}
ALL = (*SHARED, "kendall", "gumbel", "gls")


def matrices(*, gaps: bool = True) -> st.SearchStrategy[np.ndarray]:
    """Up to 9 models by 5 texts over five values, so that ties abound; some NaN where `gaps`."""
    values = st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.5] + ([np.nan] if gaps else []))
    return hnp.arrays(np.float64, st.tuples(st.integers(3, 9), st.integers(1, 5)), elements=values)


def errors_for(n_models: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float64, n_models, elements=st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]))


def quietly(name: str, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """An estimate without its warning about constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(ours, name)(X, y)


def brute_force(name: str, x: np.ndarray, y: np.ndarray) -> float:
    """The definitions, pair by pair over the models present; NaN where losses or errors present do not vary."""
    here = ~np.isnan(x)
    x, y = x[here], y[here]
    n = len(x)
    if n < 2 or x.min() == x.max() or y.min() == y.max():
        return np.nan
    if name == "product":
        return sum(a * b for a, b in zip(x, y, strict=True)) / n
    cdf = [sum((other < value) + (other == value) / 2 for other in x) / n for value in x]
    total, untied_x, untied_y = 0.0, 0, 0
    for i in range(n):
        for j in range(i):
            direction = np.sign(y[i] - y[j])
            step = {"sign": x[i] - x[j], "sign_cdf": cdf[i] - cdf[j]}.get(name, np.sign(x[i] - x[j]))
            total += direction * step
            untied_x += x[i] != x[j]
            untied_y += y[i] != y[j]
    return total / np.sqrt(untied_x * untied_y) if name == "kendall" else total / (n * (n - 1) / 2)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_estimator_equals_its_definition_with_ties_and_gaps(data):
    X = data.draw(matrices())
    y = data.draw(errors_for(len(X)))
    for name in ("product", "sign", "sign_cdf", "sign_sign", "kendall"):
        expected = [np.nan if y.min() == y.max() else brute_force(name, X[:, d], y) for d in range(X.shape[1])]
        # Sums of at most 36 terms of size up to 2: rounding stays below 36 x 2 x 2.2e-16.
        np.testing.assert_allclose(quietly(name, X, y), expected, rtol=0, atol=2e-14, err_msg=name)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_spearman_and_kendall_equal_scipy_with_ties_and_gaps(data):
    X = data.draw(matrices())
    Y = np.stack([data.draw(errors_for(len(X))) for _ in range(2)], axis=1)
    for name, oracle in (("spearmanr", scipy.stats.spearmanr), ("kendall", scipy.stats.kendalltau)):
        found = quietly(name, X, Y)
        for d in range(X.shape[1]):
            here = ~np.isnan(X[:, d])
            for t in range(2):
                x, y = X[here, d], Y[here, t]
                varies = len(x) > 1 and x.min() < x.max() and y.min() < y.max()
                expected = oracle(x, y).statistic if varies else np.nan
                np.testing.assert_allclose(found[d, t], expected, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("n_models", [3, 90, 140])
def test_without_ties_the_published_package_says_the_same(name, n_models):
    rng = np.random.default_rng(n_models)
    X, y = rng.random((n_models, 200)), rng.random(n_models)
    np.testing.assert_allclose(getattr(ours, name)(X, y), getattr(published, name)(X, y), rtol=0, atol=1e-12)


@needs_public_models
def test_on_the_published_matrix_spearman_and_kendall_equal_scipy():
    public = public_models()
    error = public.errors["sciq"]  # 16 models are tied
    texts = public.bpb_MD[:, ::20]
    for name, oracle in (("spearmanr", scipy.stats.spearmanr), ("kendall", scipy.stats.kendalltau)):
        expected = [oracle(column, error).statistic for column in texts.T]
        np.testing.assert_allclose(getattr(ours, name)(texts, error), expected, rtol=0, atol=1e-12)


def test_gumbel_scores_are_quantiles_of_the_smallest_extreme_value():
    rng = np.random.default_rng(5)
    x, y = rng.random(40), rng.random(40)
    share = (scipy.stats.rankdata(x) - 0.5) / 40
    expected = np.corrcoef(scipy.stats.gumbel_l.ppf(share), scipy.stats.rankdata(y))[0, 1]
    # scipy's quantile function and ours differ by rounding alone.
    np.testing.assert_allclose(ours.gumbel(x[:, None], y), [expected], rtol=0, atol=1e-12)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_rank_estimators_ignore_increasing_transforms_row_order_and_duplicated_texts(data):
    X = data.draw(matrices())
    y = data.draw(errors_for(len(X)))
    order = np.array(data.draw(st.permutations(range(len(X)))))
    for name in RANKED:
        plain = quietly(name, X, y)
        np.testing.assert_array_equal(quietly(name, np.exp(3 * X) - 7, y**3), plain, err_msg=name)
        # Ranks are integers, so their sums do not depend on order; quotients of equal integers are equal.
        atol = ROUNDING.get(name, 0)
        np.testing.assert_allclose(quietly(name, X[order], y[order]), plain, rtol=0, atol=atol, err_msg=name)
        twice = quietly(name, np.repeat(X, 2, axis=1), y)
        np.testing.assert_allclose(twice, np.repeat(plain, 2), rtol=0, atol=atol, err_msg=name)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_turning_the_error_round_turns_the_sign(data):
    X = data.draw(matrices())
    y = data.draw(errors_for(len(X)))
    for name in ALL:
        atol = max(ROUNDING.get(name, 0), 1e-14)
        np.testing.assert_allclose(quietly(name, X, -y), -quietly(name, X, y), rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", ALL)
def test_many_targets_at_once_equal_one_at_a_time(name):
    rng = np.random.default_rng(1)
    X, Y = rng.random((20, 30)), rng.random((20, 3))
    X[rng.random(X.shape) < 0.1] = np.nan
    together = getattr(ours, name)(X, Y)
    assert together.shape == (30, 3)
    for t in range(3):
        # The same sums in another order of blocks: rounding of 20 terms below 1.
        np.testing.assert_allclose(together[:, t], getattr(ours, name)(X, Y[:, t]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ALL)
def test_storage_in_float32_changes_ranks_only_where_it_makes_ties(name):
    rng = np.random.default_rng(2)
    X, y = rng.integers(0, 1000, (30, 50)) / 1024, rng.random(30)  # exact in float32
    np.testing.assert_allclose(getattr(ours, name)(X.astype(np.float32), y), getattr(ours, name)(X, y), rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_constants_give_nan_with_a_warning_never_a_number(name):
    rng = np.random.default_rng(3)
    X, y = rng.random((6, 3)), rng.random(6)
    X[:, 1] = 0.7
    with pytest.warns(UserWarning, match="1 text"):
        found = getattr(ours, name)(X, y)
    assert np.isnan(found).tolist() == [False, True, False]
    with pytest.warns(UserWarning, match="1 target"):
        assert np.isnan(getattr(ours, name)(X[:, [0, 2]], np.full(6, 0.5))).all()


def test_a_missing_loss_leaves_its_model_out_of_that_text_alone():
    X = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, np.nan], [4.0, 3.0]])
    y = np.array([0.1, 0.2, 0.0, 0.4])
    np.testing.assert_array_equal(ours.model_counts(X), [4, 3])
    # Without the third model the second text is in perfect order; ranked as the worst loss, NaN would break it.
    np.testing.assert_allclose(ours.spearmanr(X, y), [0.4, 1.0], rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda X, y: (X[0], y), "1 dimensions"),
        (lambda X, y: (X, y[:-1]), "found 5 models, expected 6"),
        (lambda X, y: (X, y[:, None, None]), "3 dimensions"),
        (lambda X, y: (X[:2], y[:2]), "found 2 models, expected at least 3"),
        (lambda X, y: (np.where(np.eye(6, 4) > 0, np.inf, X), y), "model 0, domain 0"),
        (lambda X, y: (X, np.where(np.arange(6) == 4, np.nan, y)), "nan at model 4"),
        (lambda X, y: (X.astype(str).astype(object) + "x", y), "no numbers"),
        (lambda X, y: (X[:, :0], y), "no text"),
    ],
)
def test_bad_input_is_refused_by_name(change, said):
    rng = np.random.default_rng(4)
    X, y = change(rng.random((6, 4)), rng.random(6))
    for name in ALL:
        with pytest.raises(InputError, match=said):
            getattr(ours, name)(X, y)
