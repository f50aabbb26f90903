"""A pilot through Dagster on real text: on request alone, every arm by itself, each plan a pilot of its own."""

import json
import shutil

import polars as pl
import pytest

from ppl_assets.orchestration.runner import run_stale
from ppl_assets.orchestration.status import partition_states
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.pilot.preregistration import plan, plan_hash
from ppl_assets.retirement import retire
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_runner import Silent, run, settings_of
from ppl_assets_tests.pilot.studies import write_text_study

pytestmark = pytest.mark.slow  # `make test-pilot`: some minutes

PILOT = ("preregistration", "pilot_runs", "pilot_comparison")


@pytest.fixture(scope="module")
def piloted(tmp_path_factory):
    """The study with its pilot run, and the outcomes of both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        settings = settings_of(write_text_study(tmp_path_factory.mktemp("piloted")))
        plain = run(settings)
        assert [outcome.error for outcome in plain if outcome.error] == []
        yield settings, plain, run(settings, select=["pilot_comparison"])


@pytest.fixture
def copied(piloted, tmp_path) -> Settings:
    """The same state in a folder of its own."""
    settings, _, _ = piloted
    shutil.copytree(settings.state, tmp_path / "state")
    return settings_of(write_text_study(tmp_path))


def tables(settings: Settings) -> dict[str, pl.DataFrame]:
    workspace = Workspace(settings)
    by_arm = {name: workspace.lake.read_partitions(name, workspace.piloted(name)) for name in ("pilot_runs",)}
    return by_arm | {name: workspace.table(name) for name in ("pilot_comparison", "pilot_harm", "preregistration")}


def recorded_seconds(settings: Settings, arm: str) -> float:
    """Seconds of training and measuring that the records of an arm's runs tell."""
    records = settings.pilot.glob(f"{arm}/*/*/seed-*/model/checkpoint.json")
    trained = [reading["seconds"] for path in records for reading in json.loads(path.read_text())["row"]["spent"]]
    records = settings.pilot.glob(f"{arm}/*/*/seed-*/measured.json")
    measured = [json.loads(path.read_text())["measured"]["spent"]["seconds"] for path in records]
    return sum(trained) + sum(measured)


def test_a_pilot_runs_where_it_is_asked_for_and_never_by_itself(piloted):
    _, plain, asked = piloted
    assert not any(outcome.task.asset in PILOT for outcome in plain)
    assert {outcome.task.asset for outcome in asked} == set(PILOT)


def test_an_arm_without_pages_fails_by_itself_and_the_table_shows_it(piloted):
    settings, _, asked = piloted
    failed = {str(outcome.task): outcome for outcome in asked if outcome.error}
    assert set(failed) == {"pilot_runs[language]"}
    assert failed["pilot_runs[language]"].bad_input
    assert "pilot, arm 'language', target 'code': found no page to train on" in failed["pilot_runs[language]"].error
    comparison = tables(settings)["pilot_comparison"]
    assert set(comparison.filter(arm="language")["verdict"]) == {"no runs"}
    assert set(comparison.filter(pl.col("gain").is_not_null())["arm"]) == {"ours", "positive", "negative"}


def test_all_arms_have_the_same_budget_and_seeds_and_say_how_often_they_saw_a_page(piloted):
    runs = tables(piloted[0])["pilot_runs"]
    assert set(runs["arm"]) == {"ours", "uniform", "positive", "negative"}
    assert set(runs.filter(metric="training/tokens")["value"]) == {8192.0}
    for arm in set(runs["arm"]):
        assert set(runs.filter(arm=arm)["seed"]) == {0, 1}
    epochs = runs.filter(metric="training/epochs").sort("arm", "seed")["value"]
    unique = runs.filter(metric="training/unique_tokens").sort("arm", "seed")["value"]
    assert (epochs * unique).to_list() == pytest.approx([8192.0] * len(epochs))


def test_every_number_stands_beside_the_plan_that_was_frozen_before_it(piloted):
    settings = piloted[0]
    found = tables(settings)
    registered = found["preregistration"].row(0, named=True)
    assert registered["pilot"] == plan_hash(plan(Workspace(settings).study))
    assert set(found["pilot_runs"]["pilot"]) == set(found["pilot_comparison"]["pilot"]) == {registered["pilot"]}


def test_controls_draw_from_the_pool_that_the_arms_select_from(piloted):
    """The positive one takes code alone; the negative one something else for each seed."""
    settings = piloted[0]
    runs = tables(settings)["pilot_runs"]
    assert runs.filter(arm="positive")["run"].n_unique() == 2
    places = [path.parent.name for path in (settings.pilot / "negative").glob("small/*/seed-*")]
    assert len(set(places)) == 2
    harm = tables(settings)["pilot_harm"].filter(arm="positive")
    code = harm.filter(pl.col("domain").str.ends_with("/code"))["gain"].mean()
    prose = harm.filter(pl.col("domain").str.ends_with("/prose"))["gain"].mean()
    assert code > prose


def test_what_is_current_is_not_run_again_and_the_report_takes_it_in(copied):
    again = run(copied, select=["pilot_comparison"])
    assert [str(outcome.task) for outcome in again] == ["pilot_runs[language]"]
    assert {outcome.task.asset for outcome in run(copied)} == {"cost_ledger", "warehouse_file", "selection_report"}


def test_some_arms_can_run_before_the_others(copied):
    study = write_text_study(copied.state.parent, **{"seeds: [0, 1]": "seeds: [1, 2]"})
    settings = Settings(state=copied.state, study=str(study))
    first = run_stale(settings, select=None, pilot_arms=("ours", "uniform"), display=Silent(), workers=1)
    assert {o.task.partition for o in first if o.task.asset == "pilot_runs"} == {"ours", "uniform"}
    assert {"preregistration", "pilot_comparison", "selection_report"} <= {o.task.asset for o in first}
    compared = tables(settings)["pilot_comparison"]
    assert set(compared.filter(pl.col("gain").is_not_null())["arm"]) == {"ours"}
    rest = run(settings, select=["pilot_comparison"])
    assert {str(o.task) for o in rest} == {
        "pilot_runs[language]",
        "pilot_runs[positive]",
        "pilot_runs[negative]",
        "pilot_comparison",
    }


def test_a_changed_plan_is_a_new_pilot_that_keeps_what_was_trained_alike(copied):
    study = write_text_study(copied.state.parent, **{"seeds: [0, 1]": "seeds: [0, 1, 2]"})
    settings = Settings(state=copied.state, study=str(study))
    kept = [*settings.pilot.glob("*/*/*/seed-*/model/model.safetensors"), *settings.pilot.glob("*/*/*/seed-*/*.json")]
    made = {path: path.stat().st_mtime_ns for path in kept}
    assert len(made) == 2 * 8, "weights and measurements of four arms and two seeds"
    run(settings, select=["pilot_comparison"])
    found = tables(settings)
    assert found["preregistration"]["number"].to_list() == [1, 2]
    latest = found["preregistration"].row(1, named=True)
    assert "seeds: [0,1] -> [0,1,2]" in latest["changes"]
    assert latest["known_arms"] == "ours, uniform, positive, negative"
    assert set(found["pilot_comparison"].drop_nulls("gain")["seeds"]) == {3}
    assert set(found["pilot_comparison"]["pilot"]) == {latest["pilot"]}
    assert {path: path.stat().st_mtime_ns for path in made} == made
    for arm in ("ours", "uniform", "positive", "negative"):
        cost = Workspace(settings).lake.footer("pilot_runs", arm).cost
        assert cost["seconds"] == pytest.approx(recorded_seconds(settings, arm)), "what was kept took its time too"


def test_a_budget_beyond_the_data_fails_before_anything_is_trained(copied):
    study = write_text_study(copied.state.parent, **{"vocabulary: 300": "vocabulary: 300\n  max_epochs: 0.01"})
    settings = Settings(state=copied.state, study=str(study))
    outcomes = run(settings, select=["pilot_runs"])
    errors = {outcome.task.partition: outcome.error for outcome in outcomes if outcome.error}
    assert {"ours", "uniform", "positive", "negative"} < set(errors)
    assert "expected at least 819,200 for a budget of 8,192 at 0.01 epochs" in errors["uniform"]
    assert not list(settings.pilot.glob("*/*/*/seed-*/checkpoints-*"))


def test_a_task_that_fails_is_named_and_training_is_not_lost(copied):
    tasks = copied.tasks / "local_items.py"
    tasks.write_text(tasks.read_text() + "\n\ndef continuation_cost(doc, results):\n    raise KeyError('gone')\n")
    study = write_text_study(copied.state.parent, **{"benchmarks:\n": "benchmarks:\n  limit: 6\n"})
    outcomes = run(Settings(state=copied.state, study=str(study)), select=["pilot_runs"])
    error = next(outcome.error for outcome in outcomes if outcome.task.partition == "uniform")
    assert "target 'code': a task among code_continuation failed: KeyError: 'gone'" in error
    assert list(copied.pilot.glob("uniform/small/*/seed-0/model/model.safetensors"))


def test_a_retired_domain_takes_the_pilots_results_with_it(copied):
    signed = retire(copied, "jinja2/*", reason="a letter", owner="legal", display=Silent(), workers=1)
    assert signed.signed_off is not None
    workspace = Workspace(copied)
    assert not copied.pilot.exists()
    assert workspace.piloted("pilot_runs") == []
    assert workspace.table("pilot_comparison").is_empty()
    assert workspace.table("preregistration").height == 1
    states = {each.asset: each.state for each in partition_states(workspace)}
    assert states["pilot_comparison"] == "missing"
