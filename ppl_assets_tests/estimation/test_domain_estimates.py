"""Inference per domain: against literal recomputation, and in worlds whose truth is known."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import scipy.stats

from ppl_assets import estimation
from ppl_assets.errors import InputError
from ppl_assets.estimation import estimate_domains, rank_prediction, signal_gate, spearmanr
from ppl_assets.estimation.domain_estimates import benjamini_hochberg
from ppl_assets.estimation.gate import family_contrasts, heterogeneity
from ppl_assets.estimation.resampling import bootstrap_weights, half_weights, replicate_correlations
from ppl_assets.estimation.scores import scores
from ppl_assets_tests.estimation.published import needs_public_models, public_models
from ppl_assets_tests.estimation.worlds import World


def two_kinds(seed: int = 0, families: int = 9) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Small models as a team would train them: half the domains code, half prose, and a target that is code."""
    rng = np.random.default_rng(seed)
    family_M = np.repeat(np.arange(families), 3)
    code_M, prose_M = rng.normal(size=(2, families))[:, family_M]
    step_M = np.tile([0.0, 0.5, 1.0], families)
    level_MD = np.where(np.arange(50) < 25, code_M[:, None], prose_M[:, None]) - step_M[:, None]
    bpb_MD = 3 + 0.3 * level_MD + 0.1 * rng.normal(size=level_MD.shape)
    return bpb_MD, code_M - step_M + 0.2 * rng.normal(size=len(code_M)), [f"f{f}" for f in family_M]


def arrays(result: object) -> dict[str, np.ndarray]:
    return {k: v for k, v in vars(result).items() if isinstance(v, np.ndarray)}


@pytest.mark.parametrize("estimator", ["gumbel", "spearman", "normal"])
def test_a_replicate_is_the_correlation_of_models_repeated_as_often_as_drawn(estimator):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 6, (12, 7)).astype(float)
    X[rng.random(X.shape) < 0.15] = np.nan
    Y = rng.integers(0, 5, (2, 12)).astype(float)
    weights = bootstrap_weights(np.repeat(np.arange(4), 3), 20, rng)
    ((_, found_TDR, cross_TDR),) = replicate_correlations(X, Y, weights, estimator)
    for d in range(7):
        for r in range(20):
            drawn = np.repeat(np.arange(12), weights[:, r].astype(int))
            drawn = drawn[~np.isnan(X[drawn, d])]
            x, ys = X[drawn, d], Y[:, drawn]
            if len(drawn) < 2 or x.min() == x.max() or (ys.min(axis=1) == ys.max(axis=1)).any():
                continue
            score = scores((scipy.stats.rankdata(x) - 0.5) / len(x), estimator)
            ranks = scipy.stats.rankdata(ys, axis=1)
            expected = [np.corrcoef(score, rank)[0, 1] for rank in ranks]
            # float32 sums of at most 40 terms: 40 x 6e-8, and a quotient of their differences.
            np.testing.assert_allclose(found_TDR[:, d, r], expected, rtol=0, atol=2e-5)
            np.testing.assert_allclose(cross_TDR[1, d, r], np.corrcoef(*ranks)[0, 1], rtol=0, atol=2e-5)


def test_halves_split_the_families_and_never_a_family():
    family = np.array([0, 0, 1, 2, 2, 2, 3, 4])
    halves = half_weights(family, 6, np.random.default_rng(0))
    np.testing.assert_array_equal(halves.sum(axis=1), 1)
    for f in range(5):
        assert (halves[family == f].std(axis=0) == 0).all()


def test_q_values_are_scipys():
    p = np.random.default_rng(0).random(50) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), scipy.stats.false_discovery_control(p), rtol=1e-12)
    with_gap = benjamini_hochberg(np.append(p, np.nan))
    np.testing.assert_allclose(with_gap[:-1], benjamini_hochberg(p), rtol=1e-12)
    assert np.isnan(with_gap[-1])


def test_estimates_of_the_right_kind_come_first_and_are_better_than_the_pool():
    bpb, error, families = two_kinds()
    found = estimate_domains(bpb, error, families=families, params=np.arange(1, 28))
    assert np.argsort(-found.estimate)[:25].max() < 25
    assert (found.q_value[:25] < 0.1).mean() > 0.8
    assert (found.q_value[25:] > 0.5).all()
    assert (found.ci_low < found.estimate).all()
    assert (found.estimate < found.ci_high).all()
    np.testing.assert_allclose(found.selection_probability.sum(), 5)  # a tenth of 50 places in every half
    assert (found.given_mean_loss[:25] > found.given_mean_loss[25:].max()).all()


def test_the_order_of_rows_changes_nothing_not_even_rounding():
    bpb, error, families = two_kinds()
    bpb[np.random.default_rng(1).random(bpb.shape) < 0.05] = np.nan
    order = np.random.default_rng(2).permutation(len(error))
    shuffled = [families[k] for k in order]
    for call in (estimate_domains, signal_gate):
        plain, moved = call(bpb, error, families=families), call(bpb[order], error[order], families=shuffled)
        if dataclasses.is_dataclass(plain) and not arrays(plain):
            assert plain == moved
        for name, values in arrays(plain).items():
            np.testing.assert_array_equal(values, arrays(moved)[name], err_msg=name)


@pytest.mark.parametrize("families", [2, 3, 4, 5])
@pytest.mark.parametrize("domains", [1, 2, 200])
def test_few_families_get_a_verdict_in_numbers_or_none_and_never_nan(families, domains):
    world = World(models=3 * families, domains=domains, topics=1, signal=2.0)
    for seed in range(5):
        pool = world.draw(np.random.default_rng(seed))
        labels = [f"f{k // 3}" for k in range(3 * families)]
        gate = signal_gate(pool.bpb_MD, pool.error_M, families=labels)
        numbers = [gate.effective_models, gate.delta_r2, gate.reliability, gate.heterogeneity_p]
        assert all(number is None or np.isfinite(number) for number in numbers), gate
        assert (gate.reliability is None) == (gate.heterogeneity_p is None) == (families < 4)
        assert "nan" not in gate.reason
        if families < 4:
            assert gate.verdict == "abstain"
            assert f"come from {families} families" in gate.reason
        else:
            assert -1 <= gate.reliability <= 1


def test_domains_that_all_say_the_same_are_no_choice():
    bpb, error, families = two_kinds()
    gate = signal_gate(np.repeat(bpb[:, :1], 30, axis=1), error, families=families)
    assert gate.verdict == "abstain"
    assert (gate.heterogeneity_p, gate.reliability) == (1.0, 0.0)


@pytest.mark.parametrize("estimator", ["gls", "spearman"])
def test_a_domain_of_two_models_has_no_estimate_and_is_never_selected(estimator):
    """Its correlation is 1 in the whole pool and in every half that has both models, of two families."""
    bpb, error, families = two_kinds()
    two = np.full((len(error), 1), np.nan)
    two[np.argsort(error)[[0, -1]], 0] = (1.0, 2.0)
    options = {"families": families, "replicates": 50, "estimator": estimator}
    found = estimate_domains(np.hstack([bpb, two]), error, **options)
    assert (found.models[-1], found.selection_probability[-1]) == (2, 0)
    unknown = {name for name, values in arrays(found).items() if np.isnan(values[-1])}
    assert unknown == arrays(found).keys() - {"models", "selection_probability"}
    np.testing.assert_array_equal(found.estimate[:-1], estimate_domains(bpb, error, **options).estimate)


def test_models_that_differ_only_far_to_the_right_have_one_order():
    rng = np.random.default_rng(0)
    bpb, error = np.ones((6, 200)), np.repeat([0.1, 0.2, 0.3], 2)
    bpb[:, :100] = np.nan
    bpb[:, 150:] += rng.random((6, 50))
    families, order = np.repeat(["a", "b", "c"], 2), rng.permutation(6)
    plain, moved = (
        estimate_domains(bpb[rows], error[rows], families=families[rows], replicates=50)
        for rows in ([*range(6)], order)
    )
    assert np.isfinite(plain.estimate[150:]).all()
    for name, values in arrays(plain).items():
        np.testing.assert_array_equal(values, arrays(moved)[name], err_msg=name)


def test_partial_and_family_parts_equal_regressions_on_ranks():
    bpb, error, families = two_kinds(3)
    size = np.random.default_rng(0).random(27)
    found = estimate_domains(bpb, error, families=families, params=size, estimator="spearman", replicates=20)
    rank = scipy.stats.rankdata
    np.testing.assert_allclose(found.estimate, spearmanr(bpb, error), rtol=0, atol=1e-12)

    def residual(values: np.ndarray, control: np.ndarray) -> np.ndarray:
        design = np.column_stack([np.ones(27), control])
        return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]

    index = np.unique(families, return_inverse=True)[1]
    member = np.eye(9)[index]
    for d in (0, 30):
        x, y = rank(bpb[:, d]), rank(error)
        given_size = np.corrcoef(residual(x, rank(size)), residual(y, rank(size)))[0, 1]
        np.testing.assert_allclose(found.given_size[d], given_size, rtol=0, atol=1e-10)
        mean_x, mean_y = member.T @ x / 3, member.T @ y / 3
        np.testing.assert_allclose(found.between_family[d], np.corrcoef(mean_x, mean_y)[0, 1], rtol=0, atol=1e-10)
        inside = np.corrcoef(x - mean_x[index], y - mean_y[index])[0, 1]
        np.testing.assert_allclose(found.within_family[d], inside, rtol=0, atol=1e-10)


def test_shrinkage_pulls_noisy_domains_toward_their_group():
    bpb, error, families = two_kinds(4)
    groups = ["code"] * 25 + ["prose"] * 25
    found = estimate_domains(bpb, error, families=families, groups=groups, replicates=20)
    for inside in (slice(0, 25), slice(25, 50)):
        assert found.shrunken[inside].std() < found.estimate[inside].std()
    assert found.shrunken[:25].min() > found.shrunken[25:].max()


def test_the_gate_selects_where_a_kind_of_text_matters_and_abstains_on_noise():
    bpb, error, families = two_kinds()
    gate = signal_gate(bpb, error, families=families)
    assert gate.verdict == "select", gate
    assert 9 <= gate.effective_models <= 27
    noise = [signal_gate(bpb, np.random.default_rng(seed).random(27), families=families).verdict for seed in range(20)]
    # At a level of 0.05, four or more of 20 false alarms have a probability below 0.02.
    assert noise.count("abstain") >= 17


def test_the_test_of_heterogeneity_passes_errors_unrelated_to_losses_as_often_as_it_says():
    family_M = np.repeat(np.arange(6), 2)
    p_values = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        ability_M, own_MD = rng.normal(size=6)[family_M], rng.normal(size=(6, 30))[family_M]
        losses_MD = ability_M[:, None] + own_MD + 0.1 * rng.normal(size=own_MD.shape)
        errors_M = rng.normal(size=6)[family_M] + 0.1 * rng.normal(size=12)
        p_values.append(heterogeneity(family_contrasts(losses_MD, errors_M, family_M), 99, rng))
    # 400 draws: a standard error of 0.02. Residuals that are permuted as they are pass 0.34 of the time.
    assert abs(np.mean(np.array(p_values) <= 0.2) - 0.2) < 0.05


def test_in_null_worlds_few_domains_are_called_better_than_the_pool():
    world = World(models=60, domains=60, signal=0.0)
    any_called = []
    for seed in range(40):
        pool = world.draw(np.random.default_rng(seed))
        found = estimate_domains(pool.bpb_MD, pool.error_M, families=pool.families, replicates=2)
        any_called.append((found.q_value <= 0.1).any())
    # Nominal 0.1 plus two standard errors of 40 draws, 0.095.
    assert np.mean(any_called) <= 0.195


def test_held_out_ranks_are_predicted_without_the_held_out_errors():
    bpb, error, families = two_kinds()
    found = rank_prediction(bpb, error, families=families, params=np.arange(1, 28))
    assert found.r2["ours"] > 0.6 > found.r2["mean_loss"]
    assert set(found.predicted_rank) == {"ours", "mean_loss", "pca", "size"}
    changed = error.copy()
    changed[:3] = changed[:3][::-1]  # the same ranks overall, another order inside the first family
    again = rank_prediction(bpb, changed, families=families, params=np.arange(1, 28))
    np.testing.assert_array_equal(again.predicted_rank["ours"][:3], found.predicted_rank["ours"][:3])


@needs_public_models
def test_on_the_published_matrix_the_gate_does_not_select_for_arc_easy_and_counts_models_with_sense():
    public = public_models()
    gates = {
        task: signal_gate(public.bpb_MD, error, families=public.families, models=public.models)
        for task, error in public.errors.items()
    }
    assert gates["arc_easy"].verdict != "select"
    assert {gate.verdict for gate in gates.values()} > {"select"}  # it does not say no to everything
    for gate in gates.values():
        assert 20 <= gate.effective_models <= 60


@needs_public_models
def test_on_the_published_matrix_the_order_of_rows_changes_no_bit_of_any_answer():
    public = public_models()
    order = np.random.default_rng(0).permutation(90)
    labels = np.array(public.families)
    for error in public.errors.values():
        for call in (partial(estimate_domains, replicates=100), signal_gate):
            plain = call(public.bpb_MD, error, families=labels)
            moved = call(public.bpb_MD[order], error[order], families=labels[order])
            for name, value in vars(plain).items():
                np.testing.assert_array_equal(value, vars(moved)[name], err_msg=name)


@needs_public_models
def test_on_the_published_matrix_estimators_do_not_see_the_order_of_rows():
    public = public_models()
    errors, order = np.column_stack(list(public.errors.values())), np.random.default_rng(1).permutation(90)
    for name in ("sign_cdf", "sign_sign", "spearmanr", "kendall"):
        estimator = getattr(estimation, name)
        whole = estimator(public.bpb_MD, errors)
        np.testing.assert_array_equal(whole, estimator(public.bpb_MD[order], errors[order]), err_msg=name)
    # Sums of 90 products of floats, taken in the order of rows; a solved system amplifies them a little in `gls`.
    for name in ("product", "sign", "gumbel", "gls"):
        estimator = getattr(estimation, name)
        whole = estimator(public.bpb_MD, errors)
        np.testing.assert_allclose(whole, estimator(public.bpb_MD[order], errors[order]), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"families": ["one"] * 27}, "at least 2"),
        ({"families": ["one"] * 26}, "found 26"),
        ({"error": np.full(27, 0.5)}, "tied at 0.5"),
        ({"models": ["same"] * 27}, "'same' twice"),
        ({"domains": ["d"] * 50}, "'d' twice"),
        ({"params": np.zeros(27)}, "not positive"),
        ({"groups": ["g"]}, "found 1, expected 50"),
        ({"estimator": "gumble"}, "did you mean 'gumbel'"),
        ({"top_share": 0.0}, "top_share"),
    ],
)
def test_bad_input_is_refused_by_name(change, said):
    bpb, error, families = two_kinds()
    arguments = {"families": families, "error": error} | change
    with pytest.raises(InputError, match=said):
        estimate_domains(bpb, arguments.pop("error"), **arguments)


def test_an_infinite_loss_is_named_by_model_and_domain():
    bpb, error, families = two_kinds()
    bpb[4, 7] = np.inf
    with pytest.raises(InputError, match="model 'm4', domain 'd7'"):
        estimate_domains(
            bpb, error, families=families, models=[f"m{k}" for k in range(27)], domains=[f"d{k}" for k in range(50)]
        )
