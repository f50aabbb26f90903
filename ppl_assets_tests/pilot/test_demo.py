"""The demo's pilot with both controls, from its text to its verdicts: some minutes on two cores (`make test-pilot`)."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.study import embedded_text
from ppl_assets_tests.orchestration.test_runner import run, settings_of

pytestmark = pytest.mark.slow


# Four fifths of the pool are code, so the positive control changes little for `code`: with the spread that three seeds
# show, it takes about this many to see it.
MANY_SEEDS = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def comparison(folder) -> pl.DataFrame:
    """What decides of the demo's pilot, its controls included: one row per target and arm."""
    return compared(folder, controls=["positive", "negative"])


@pytest.fixture(scope="module")
def many_seeds(folder, comparison) -> pl.DataFrame:
    """The same for one target, with more seeds and on what the first pilot left."""
    return compared(folder, controls=["positive"], targets=["code"], arms=["ours", "uniform"], seeds=range(MANY_SEEDS))


def compared(folder: Path, **pilot: Any) -> pl.DataFrame:
    """The demo's pilot with other settings, each arm against uniform by what decides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        study = yaml.safe_load(embedded_text("demo"))
        study["pilot"] |= {name: list(value) for name, value in pilot.items()}
        path = folder / "study.yaml"
        path.write_text(yaml.safe_dump(study))
        settings = settings_of(path)
        outcomes = run(settings, select=["pilot_comparison"], workers=2)
        assert [outcome.error for outcome in outcomes if outcome.error] == []
        rows = Workspace(settings).table("pilot_comparison")
        return rows.filter(pl.col("role") == "uniform", pl.col("measure") == study["pilot"]["decide_on"])


@pytest.mark.parametrize("target", ["code", "prose"])
def test_ours_beats_uniform_on_the_targets_held_out_text(comparison, target):
    row = comparison.filter(arm="ours", target=target).row(0, named=True)
    assert row["seeds"] == 3
    assert row["ci_low"] > 0, row


@pytest.mark.parametrize("target", ["code", "prose"])
def test_the_table_shows_every_arm(comparison, target):
    rows = comparison.filter(target=target)
    assert set(rows["arm"]) == {"ours", "dsir", "quality_classifier", "positive", "negative"}
    assert rows["gain"].null_count() == 0


def test_text_of_the_targets_own_kind_wins(comparison):
    assert comparison.filter(arm="positive", target="prose")["ci_low"].item() > 0


def test_text_of_the_targets_own_kind_wins_where_the_pool_has_little_else(many_seeds):
    assert many_seeds["seeds"].to_list() == [MANY_SEEDS] * 2
    assert many_seeds.filter(arm="positive")["ci_low"].item() > 0
    assert many_seeds.filter(arm="ours")["ci_low"].item() > 0


@pytest.mark.parametrize("target", ["code", "prose"])
def test_shuffled_estimates_do_not_differ_from_uniform(comparison, target):
    row = comparison.filter(arm="negative", target=target).row(0, named=True)
    assert row["ci_low"] <= 0 <= row["ci_high"], row
