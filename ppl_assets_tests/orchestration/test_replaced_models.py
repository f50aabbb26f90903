"""Other weights under a name that is known, and known weights at another place."""

import shutil
from pathlib import Path

import pytest

from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_runner import run, settings_of
from ppl_assets_tests.scored_study import write_model, write_scored_study

MODELS = ("alpha", "beta")
SCORED = ["domain_logliks", "benchmark_scores"]


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    """The folder of a study and its state; both models are scored."""
    study = write_scored_study(tmp_path_factory.mktemp("replaced") / "study", MODELS, known="")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        assert [outcome.error for outcome in run(settings_of(study), SCORED) if outcome.error] == []
    return study.parent


@pytest.fixture
def moved(scored, tmp_path, monkeypatch) -> Settings:
    """The same folder at another place."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    shutil.copytree(scored, tmp_path / "study")
    return Settings(
        state=tmp_path / "study" / settings_of(scored / "study.yaml").state.name,
        study=str(tmp_path / "study" / "study.yaml"),
    )


def test_numbers_of_the_old_weights_do_not_stay_where_the_new_ones_fail(moved):
    write_model(moved.state.parent / "alpha", seed=7)
    (moved.state.parent / "alpha" / "tokenizer.json").write_text("{")
    failed = {str(outcome.task) for outcome in run(moved, SCORED) if outcome.error}
    assert failed == {"chunk_logliks[alpha]", "benchmark_scores[alpha]"}
    workspace = Workspace(moved)
    for table in ("chunk_logliks", *SCORED):
        assert workspace.present(table) == ["beta"], table
        assert workspace.missing(table) == ["alpha"]


def test_weights_at_another_place_are_not_scored_again(moved):
    """The registry is made anew, since a model joins; what is known of the others stays."""
    study = moved.state.parent / "study.yaml"
    write_model(study.parent / "gamma", seed=7)
    line = "  - {slug: gamma, family: gamma, source: gamma}\n"
    study.write_text(study.read_text().replace("models:\n", f"models:\n{line}"))
    outcomes = run(moved, SCORED)
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    ran = {str(outcome.task) for outcome in outcomes}
    assert ran == {"model_registry", *(f"{asset}[gamma]" for asset in ("chunk_logliks", *SCORED))}
    assert str(moved.state.parent) in Workspace(moved).model("alpha")["source"]
