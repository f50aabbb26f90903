"""Importance resampling against the package of its authors, and against the distribution that it promises."""

import importlib
import json

import numpy as np
import pytest

from ppl_assets.filtering.dsir import ImportanceWeights, gumbel
from ppl_assets_tests.filtering.worlds import BAD, GOOD, drawn_text


@pytest.fixture(scope="module")
def texts():
    """Pool and target, with text that splits into words in every way."""
    rng = np.random.default_rng(3)
    pool = [drawn_text(rng, GOOD if number % 3 else BAD, words=int(rng.integers(90, 160))) for number in range(40)]
    pool += ["Too short, by far.", 'if (x_1 != "ÜBER")\n\treturn--;  // …\u00a0æ 中文 __label__include ' * 12]
    return pool, [drawn_text(rng, GOOD, words=120) for _ in range(15)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
def test_log_weights_are_those_of_the_published_package(texts, tmp_path):
    package = importlib.import_module("data_selection")
    pool, target = texts
    for name, found in (("pool", pool), ("target", target)):
        lines = [json.dumps({"text": text}) + "\n" for text in found]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    published = package.HashedNgramDSIR(
        [str(tmp_path / "pool.jsonl")], [str(tmp_path / "target.jsonl")], cache_dir=str(tmp_path / "cache"), num_proc=1
    )
    published.fit_importance_estimator(num_tokens_to_fit="all")
    ours = ImportanceWeights.fit(target, pool, [1.0] * len(pool))
    # Differences of logarithms of sums of whole numbers, computed in another order.
    np.testing.assert_allclose(ours.log_ratio_B, published.log_diff, rtol=0, atol=1e-12)
    long_enough = 0
    for text in pool:
        features = published.featurizer(text)
        if published.perexample_metadata_filter(published.get_perexample_metadata({}, features)):
            long_enough += 1
            assert ours.log_weight(text) == pytest.approx(published.importance_estimator(features), abs=1e-9)
        else:
            assert np.isnan(ours.log_weight(text))
    assert long_enough == 41


def test_the_best_by_weight_and_noise_are_a_sample_in_proportion_to_the_weights():
    """Gumbel's maximum: a page is first as often as its share of the weights, whatever its name."""
    log_weight = np.log([0.6, 0.3, 0.1])
    first = np.zeros(3)
    for seed in range(3000):
        noise = [gumbel(f"page {number}", seed) for number in range(3)]
        first[np.argmax(log_weight + noise)] += 1
    # Four standard errors of a share of 3,000 draws are at most 0.037.
    np.testing.assert_allclose(first / 3000, [0.6, 0.3, 0.1], atol=0.037)


def test_weights_survive_a_file_and_a_page_counts_as_often_as_it_is_said_to(texts, tmp_path):
    pool, target = texts
    twice = ImportanceWeights.fit(target, [*pool, *pool[:5]], [1.0] * (len(pool) + 5))
    weighted = ImportanceWeights.fit(target, pool, [2.0] * 5 + [1.0] * (len(pool) - 5))
    np.testing.assert_allclose(weighted.log_ratio_B, twice.log_ratio_B, atol=1e-12)
    loaded = ImportanceWeights.load(weighted.save(tmp_path / "dsir.npy"))
    names = [str(number) for number in range(len(pool))]
    np.testing.assert_array_equal(loaded.scores(names, pool, 0), weighted.scores(names, pool, 0))
