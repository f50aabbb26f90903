"""Targets, lineage, probes, kinds, ranks kept over changes, blocks of texts, and the default against known effects."""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ppl_assets.estimation as ours
from ppl_assets.errors import InputError
from ppl_assets.estimation.rank_correlation import centred_ranks
from ppl_assets_tests.bench.calibrate import PROBE_ARMS, causal_agreement, probes_needed
from ppl_assets_tests.estimation.published import needs_public_models, needs_regmix, public_models
from ppl_assets_tests.estimation.rivals import RULES
from ppl_assets_tests.estimation.worlds import TwinWorld


def test_tasks_are_oriented_and_standardised_before_they_are_averaged():
    values = np.array([[0.2, np.e], [0.4, np.e**3], [0.9, np.e**2], [np.nan, np.e**2]])
    found = ours.target_errors(values, tasks=["a", "b"], kinds=["accuracy", "perplexity"])
    first, second = 1 - values[:3, 0], np.array([1.0, 3.0, 2.0, 2.0])
    first, second = (first - first.mean()) / first.std(), (second - second.mean()) / second.std()
    np.testing.assert_allclose(found.error, [*((first + second[:3]) / 2), second[3]], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.tasks, [2, 2, 2, 1])


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [([0.2, 57.0], "accuracy", "57"), ([0.5, 3.0], "perplexity", "0.5"), ([1.0, 2.0], "acuracy", "did you mean")],
)
def test_metrics_that_cannot_be_what_they_are_called_are_refused(values, kind, said):
    with pytest.raises(InputError, match=said):
        ours.task_errors(np.array(values), kind)


@needs_public_models
def test_on_the_published_matrix_an_accuracy_is_caught_and_languages_cannot_be_told_apart():
    public = public_models()
    with pytest.raises(InputError, match="looks like an accuracy"):
        ours.check_orientation(public.bpb_MD, 1 - public.errors["piqa"], target="piqa")
    assert ours.check_orientation(public.bpb_MD, public.errors["piqa"], target="piqa") > 0.9
    names = ["lambada_openai_mt_de", "lambada_openai_mt_it", "sciq"]
    together = np.stack([public.errors[name] for name in names], axis=1)
    ((first, second, rho),) = ours.not_separable(together, names)
    assert (first, second) == tuple(names[:2])
    assert rho > 0.95
    contrast = ours.contrast_target(together, names, names[0])
    assert abs(ours.spearmanr(together[:, [1]], contrast)[0]) < 0.3


@pytest.mark.parametrize("models", [12, 31, 60])
def test_a_target_that_the_others_rank_alike_leaves_nothing_and_is_refused(models):
    """Rounding would leave 1e-14 of it, whose signs follow the target itself."""
    same, other = np.random.default_rng(models).normal(size=(2, models))
    for names, columns in (("ab", [same, np.exp(same)]), ("abc", [same, 2 * same + 1, other])):
        rest = ", ".join(repr(name) for name in names[1:])
        with pytest.raises(InputError, match=f"target 'a': nothing is left of it next to {rest}: {models} models"):
            ours.contrast_target(np.column_stack(columns), [*names], "a")


def test_models_of_which_a_contrast_leaves_the_same_are_tied():
    """Against exact fractions; in one draw of three, floats tell apart models that are tied."""
    for seed in range(30):
        error = np.random.default_rng(seed).permuted(np.tile(np.arange(8.0)[:, None], 2), axis=0)
        own, other = ([Fraction(2 * int(value) - 7) for value in column] for column in error.T)
        slope = sum(a * b for a, b in zip(own, other, strict=True)) / sum(b * b for b in other)
        exact = [a - slope * b for a, b in zip(own, other, strict=True)]
        found = ours.contrast_target(error, ["a", "b"], "a")
        np.testing.assert_array_equal(
            np.sign(found[:, None] - found), [[(a > b) - (a < b) for b in exact] for a in exact]
        )
        np.testing.assert_allclose(found, [float(value) for value in exact], rtol=0, atol=1e-9)


def test_effective_models_lie_between_families_and_models():
    families = [f"f{k // 4}" for k in range(40)]
    rng = np.random.default_rng(0)
    alike = np.repeat(rng.random(10), 4) + 1e-6 * rng.random(40)
    assert ours.effective_models(alike, families=families) == pytest.approx(10, rel=0.02)
    assert ours.effective_models(rng.random(40), families=families) > 25
    assert ours.gain_of_candidate(alike, families=families, candidate="new") > 0.4
    assert ours.gain_of_candidate(alike, families=families, candidate="f0") < 0.1


@needs_public_models
def test_the_model_that_is_published_twice_is_found():
    public = public_models()
    assert any(
        "Amber" in first and "Amber" in second for first, second in ours.duplicates(public.bpb_MD, public.models)
    )


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_ranks_kept_over_additions_and_removals_are_the_ranks_of_the_pool_that_is_left(data):
    n_models = data.draw(st.integers(4, 7))
    values = st.sampled_from([1.0, 2.0, 3.0, np.nan])
    loss = np.array(data.draw(st.lists(st.lists(values, min_size=3, max_size=3), min_size=n_models, max_size=n_models)))
    table = ours.RankTable.of(loss[:3], ["m0", "m1", "m2"])
    for k in range(3, n_models):
        table = table.add(f"m{k}", loss[k])
    gone = data.draw(st.integers(0, n_models - 1))
    table = table.remove(f"m{gone}")
    np.testing.assert_array_equal(table.rank_MD, centred_ranks(np.delete(loss, gone, axis=0)))


def test_a_parquet_file_read_in_blocks_gives_the_estimates_of_the_whole(tmp_path):
    rng = np.random.default_rng(0)
    loss, error = rng.random((5, 1000)), rng.random(5)
    loss[2, 7] = np.nan
    models = [f"m{k}" for k in range(5)]
    pq.write_table(
        pa.table({name: pa.array(row, from_pandas=True) for name, row in zip(models, loss, strict=True)}),
        tmp_path / "x.parquet",
    )
    blocks = ours.parquet_blocks(tmp_path / "x.parquet", models, rows=300)
    np.testing.assert_array_equal(ours.estimate_blocks(blocks, error, ours.spearmanr), ours.spearmanr(loss, error))
    with pytest.raises(InputError, match="'m9'"):
        next(ours.parquet_blocks(tmp_path / "x.parquet", ["m9"]))


@needs_regmix
def test_the_default_orders_domains_by_their_causal_effects_better_than_spearman():
    default, plain = causal_agreement(RULES["GLS (default)"]), causal_agreement(RULES["Spearman"])
    assert default.mean() >= plain.mean() + 0.1
    assert default.mean() > 0.85
    assert plain.mean() == pytest.approx(0.735, abs=0.0005)  # as published with the question


def test_designed_probes_separate_targets_that_the_public_pool_cannot():
    world = TwinWorld()
    before, after = [], []
    for seed in range(3):
        bpb, errors, families = world.public(np.random.default_rng(seed))
        assert ours.target_correlations(errors)[0, 1] > 0.95
        design = ours.propose_probes(
            bpb, families=families, groups=[f"g{kind}" for kind in world.kind_D], probes=12, seed=seed
        )
        np.testing.assert_allclose(design.shares.sum(axis=1), 1)
        probe_bpb, probe_errors, probe_families = world.probes(design.shares, np.random.default_rng(seed))
        for target in range(2):
            found = ours.estimate_by_kind(
                np.vstack([bpb, probe_bpb]),
                np.concatenate([errors, probe_errors])[:, target],
                kinds=["public"] * len(bpb) + ["probe"] * 12,
                families=[*families, *probe_families],
            )
            before.append((world.kind_D[np.argsort(-found.by_kind["public"])[:10]] == target).mean())
            after.append((world.kind_D[np.argsort(-found.combined)[:10]] == target).mean())
    assert np.mean(before) < 0.7  # two kinds share the top
    assert np.mean(after) > 0.9


@pytest.mark.slow
def test_fewer_designed_than_random_probes_put_the_right_domains_on_top():
    world = TwinWorld()
    needed = {arm: np.array([probes_needed(world, arm, seed) for seed in range(12)]) for arm in PROBE_ARMS}
    assert np.median(needed["designed"]) <= 3
    for arm in ("random", "random, as sharp"):
        fewer = needed[arm] - needed["designed"]
        assert fewer.mean() > 2 * fewer.std(ddof=1) / np.sqrt(len(fewer)), (arm, needed)
