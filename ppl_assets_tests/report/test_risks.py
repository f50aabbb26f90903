"""Risks: each is measured from the tables and flagged on the right side of its threshold."""

from dataclasses import replace

import polars as pl
import pytest
from scipy.stats import spearmanr

from ppl_assets.report.risks import risks
from ppl_assets_tests.report.worlds import drawn_world


@pytest.fixture(scope="module")
def world():
    return drawn_world(targets=("qa", "code"))


def found(data, name, target="qa"):
    """The one risk whose name starts so."""
    (risk,) = [risk for risk in risks(data, target) if risk.name.startswith(name)]
    return risk


def with_gate(world, **values):
    return replace(world, signal_gate=world.signal_gate.with_columns(**{k: pl.lit(v) for k, v in values.items()}))


@pytest.mark.parametrize(
    ("name", "column", "bad", "good"),
    [
        ("Independent models", "effective_models", 19.9, 20.0),
        ("Agreement between halves", "reliability", 0.49, 0.5),
        ("Differences between domains", "heterogeneity_p", 0.051, 0.05),
        ("Gain over mean loss", "delta_r2", 0.0, 0.001),
    ],
)
def test_the_gates_numbers_are_flagged_beyond_their_thresholds(world, name, column, bad, good):
    assert found(with_gate(world, **{column: bad}), name).flagged
    assert not found(with_gate(world, **{column: good}), name).flagged


def test_an_unknown_reliability_is_a_risk(world):
    risk = found(with_gate(world, reliability=None), "Agreement between halves")
    assert risk.flagged
    assert risk.measure == "–"


def test_uncertain_and_unstable_weight_is_added_up(world):
    weights = dict(world.pretraining_mixture.filter(pl.col("target") == "qa").select("domain", "weight").iter_rows())
    largest = max(weights, key=weights.__getitem__)
    only = pl.col("domain") == largest
    estimates = world.correlation_estimates.with_columns(
        q_value=pl.when(only).then(0.2).otherwise(0.05),
        selection_probability=pl.when(only).then(0.4).otherwise(0.9),
    )
    changed = replace(world, correlation_estimates=estimates)
    expected = f"{100 * weights[largest]:.1f} %"
    assert found(changed, "Mixture in domains not told from the pool").measure == expected
    assert found(changed, "Mixture in domains that half").measure == expected
    assert found(changed, "Largest domain").measure == expected
    assert largest in found(changed, "Largest domain").sentence


def test_a_shift_is_the_share_that_would_have_to_move(world):
    language = dict(world.domains.select("domain", "language").iter_rows())
    rows = world.domain_rows("qa")
    german = [language[name] == "de" for name in rows["domain"]]
    moved = abs(rows.filter(german)["weight"].sum() - rows.filter(german)["pool"].sum())
    assert found(world, "Shift between languages").measure == f"{100 * moved:.1f} %"


def test_a_corpus_of_one_language_has_no_shift(world):
    alike = replace(world, domains=world.domains.with_columns(language=pl.lit("en")))
    assert not [risk for risk in risks(alike, "qa") if risk.name.startswith("Shift between languages")]


def test_targets_that_models_cannot_tell_apart_are_named(world):
    errors = world.benchmark_errors
    qa, code = (errors.filter(pl.col("target") == target)["error"].to_numpy() for target in ("qa", "code"))
    risk = found(world, "Closest other target")
    assert risk.measure == f"{spearmanr(qa, code).statistic:+.2f}"
    assert "code" in risk.sentence
    assert not risk.flagged
    twin = errors.with_columns(error=pl.col("error").first().over("slug") ** 3)
    assert found(replace(world, benchmark_errors=twin), "Closest other target").flagged


def test_a_single_target_has_no_neighbour():
    alone = drawn_world(targets=("qa",))
    assert not [risk for risk in risks(alone, "qa") if risk.name.startswith("Closest")]


def test_missing_chunks_are_counted_over_all_models(world):
    assert not found(world, "Chunks without a loss").flagged
    lossy = replace(world, domain_logliks=world.domain_logliks.with_columns(chunks_missing=pl.lit(1)))
    assert found(lossy, "Chunks without a loss").measure == "20.0 %"  # 1 missing for every 4 scored
    assert found(lossy, "Chunks without a loss").flagged


def test_a_fallback_is_not_blamed_for_the_pool(world):
    names = [risk.name for risk in risks(world, "code")]
    assert not [name for name in names if name.startswith(("Largest", "Shift", "Mixture in domains"))]
    assert [name for name in names if name.startswith("Mixture without a stated licence")]


def test_what_to_look_at_comes_first(world):
    flags = [risk.flagged for risk in risks(world, "qa")]
    assert flags == sorted(flags, reverse=True)
    assert {True, False} == set(flags)
