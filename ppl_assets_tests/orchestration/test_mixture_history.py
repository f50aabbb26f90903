"""The mixture before is state: a run that changes nothing, a crash or a part made again must not lose or repeat it."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets.warehouse import Lake
from ppl_assets_tests.orchestration.test_runner import run, settings_of
from ppl_assets_tests.studies import write_import_study

CHURN = 0.1
TABLES_OF_ASSET = ("pretraining_mixture", "mixture_gains", "shadow_prices", "mixture_changes")


def mixed(settings: Settings) -> dict[str, pl.DataFrame]:
    """Bring the mixture up to date, and read what it wrote."""
    outcomes = run(settings, ["pretraining_mixture"])
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    return {name: Workspace(settings).table(name) for name in TABLES_OF_ASSET}


def same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> bool:
    return all(one[name].equals(other[name]) for name in TABLES_OF_ASSET)


@pytest.fixture(scope="module")
def about_to_move(tmp_path_factory) -> Path:
    """A study whose mixture may change by a tenth at once: mixed, then its targets' scores swapped, not mixed again."""
    folder = tmp_path_factory.mktemp("about") / "study"
    folder.mkdir()
    path = write_import_study(folder)
    text = path.read_text().replace("200", "20").replace("{keep: 0.25}", f"{{keep: 0.25, churn: {CHURN}, use: sums}}")
    path.write_text(text)
    settings = settings_of(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        first = mixed(settings)
        assert first["mixture_changes"]["change"].null_count() == first["mixture_changes"].height
        scores = pl.read_csv(folder / "scores.csv")
        swapped = pl.col("task").replace_strict({"sums": "verse", "verse": "sums"})
        scores.with_columns(task=swapped).write_csv(folder / "scores.csv")
        run(settings, ["correlation_estimates", "signal_gate"])
    return folder


def copied(folder: Path, to: Path) -> Settings:
    """The study and its state at another place."""
    shutil.copytree(folder, to / "study")
    return settings_of(to / "study" / "study.yaml")


@pytest.fixture(scope="module")
def moved(about_to_move, tmp_path_factory) -> tuple[Settings, dict[str, pl.DataFrame]]:
    """The state after the second mixture, which nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        settings = copied(about_to_move, tmp_path_factory.mktemp("moved"))
        yield settings, mixed(settings)


def test_no_more_than_the_churn_moves_and_the_diff_says_what(moved):
    _, tables = moved
    changes = tables["mixture_changes"].filter(pl.col("target") == "sums")
    before, after = changes["weight_before"].to_numpy(), changes["weight_after"].to_numpy()
    assert np.abs(after - before).sum() / 2 == pytest.approx(CHURN, abs=1e-9)
    changed = changes.filter(pl.col("why").is_not_null())
    assert {"entered", "moved"} <= set(changed["change"])
    assert changed["why"].str.starts_with("Its estimate ").all()
    prices = tables["shadow_prices"].filter(pl.col("target") == "sums")
    assert "bound on churn" in prices["rule"].to_list()


def test_an_unchanged_study_stays_current_and_its_diff_stays(moved):
    settings, tables = moved
    assert run(settings, ["pretraining_mixture"]) == []
    assert same(mixed(settings), tables)


@pytest.mark.parametrize("lost", TABLES_OF_ASSET[:-1])
def test_a_part_made_again_from_the_same_inputs_takes_no_further_step(moved, lost):
    settings, tables = moved
    Workspace(settings).lake.remove(lost)
    assert same(mixed(settings), tables)


@pytest.mark.parametrize("table", TABLES_OF_ASSET)
def test_a_crash_before_any_write_loses_no_mixture(about_to_move, moved, table, tmp_path, monkeypatch):
    _, undisturbed = moved
    settings = copied(about_to_move, tmp_path)
    write = Lake.write

    def crash(self, name, *args, **kwargs):
        if name == table:
            raise RuntimeError("killed")
        return write(self, name, *args, **kwargs)

    monkeypatch.setattr(Lake, "write", crash)
    (failed,) = [outcome for outcome in run(settings, ["pretraining_mixture"]) if outcome.error]
    assert "killed" in failed.error
    monkeypatch.undo()
    assert same(mixed(settings), undisturbed)


def test_the_next_change_starts_from_what_the_last_one_left(moved, tmp_path):
    moved_settings, second = moved
    settings = copied(Path(moved_settings.study).parent, tmp_path)
    study = Path(settings.study)
    study.write_text(study.read_text().replace("churn: 0.1", "churn: 0.2"))
    third = mixed(settings)
    before = third["mixture_changes"].select("target", "domain", weight_after="weight_before")
    assert before.equals(second["mixture_changes"].select("target", "domain", "weight_after"))
