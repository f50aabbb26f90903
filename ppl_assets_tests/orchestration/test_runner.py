"""Runs on a real persistent instance: what is stale runs once, what fails is told, what was killed is finished."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.orchestration.instance import open_instance, prepare
from ppl_assets.orchestration.provenance import RECIPES
from ppl_assets.orchestration.runner import Outcome, Task, run_stale
from ppl_assets.orchestration.status import partition_states
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.schema import TABLES
from ppl_assets.settings import Settings
from ppl_assets_tests.studies import imported_tables, write_import_study


class Silent:
    """A display that shows nothing."""

    def level(self, tasks: list[Task]) -> None:
        pass

    def progress(self, update: object) -> None:
        pass

    def finished(self, outcome: Outcome) -> None:
        pass


def run(settings: Settings, select: list[str] | None = None, workers: int = 1) -> list[Outcome]:
    return run_stale(settings, select=select, display=Silent(), workers=workers)


def ran_without_error(settings: Settings) -> dict[str, tuple[str, ...]]:
    """What ran, with the imported models that it took at once."""
    outcomes = run(settings)
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    return {str(outcome.task): outcome.task.imported for outcome in outcomes}


def settings_of(study: Path, state: str = "state") -> Settings:
    return Settings(state=study.parent / state, study=str(study))


def tables_of(settings: Settings) -> dict[str, pl.DataFrame]:
    """Every published table that holds no times."""
    workspace = Workspace(settings)
    whole = {name: workspace.table(name) for name, table in TABLES.items() if table.published and not table.partition}
    by_model = {name: workspace.by_model(name) for name in ("benchmark_scores", "domain_logliks")}
    return {name: frame for name, frame in (whole | by_model).items() if name != "cost_ledger"}


def assert_same_tables(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].equals(other[name]), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that has run once, undisturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        study = write_import_study(tmp_path_factory.mktemp("finished"))
        settings = settings_of(study)
        outcomes = run(settings, workers=2)
        yield settings, outcomes


def test_the_whole_graph_runs_and_finds_the_planted_answer(finished):
    settings, outcomes = finished
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    mixture = tables_of(settings)["pretraining_mixture"]
    for target, kind in (("sums", "maths"), ("verse", "poetry")):
        rows = mixture.filter(pl.col("target") == target)
        assert rows["weight"].sum() == pytest.approx(1, abs=1e-9)
        assert (rows["weight"] <= rows["cap"] + 1e-12).all()
        assert rows.filter(pl.col("domain").str.starts_with(kind))["weight"].sum() > 0.99


def test_every_run_is_on_the_instance_that_the_web_ui_reads(finished):
    settings, outcomes = finished
    prepare(settings)
    with open_instance() as instance:
        assert instance.get_runs_count() == len(outcomes)
        event = instance.get_latest_materialization_event(dg.AssetKey("pretraining_mixture"))
        assert event.asset_materialization.metadata["dagster/row_count"].value == 16
        assert sorted(instance.get_dynamic_partitions("model")) == [f"model-{number:02d}" for number in range(12)]


def test_nothing_runs_when_everything_is_current(finished):
    settings, _ = finished
    assert run(settings) == []
    assert {each.state for each in partition_states(Workspace(settings))} == {"current"}


def test_a_changed_score_reruns_that_model_and_what_depends_on_it(import_study):
    settings = settings_of(import_study)
    ran_without_error(settings)
    _, scores = imported_tables()
    changed = (pl.col("slug") == "model-03") & (pl.col("task") == "sums")
    scores = scores.with_columns(value=pl.when(changed).then(0.99).otherwise("value"))
    scores.write_csv(import_study.parent / "scores.csv")
    ran = ran_without_error(settings)
    assert ran["benchmark_scores (1 imported models)"] == ("model-03",)
    assert not any(name.startswith("domain_logliks") for name in ran)
    assert "domain_catalog" not in ran
    assert {"benchmark_errors", "correlation_estimates", "pretraining_mixture", "warehouse_file"} <= set(ran)


def test_a_rewritten_file_with_the_same_rows_changes_nothing_downstream(import_study):
    settings = settings_of(import_study)
    ran_without_error(settings)
    losses, _ = imported_tables()
    losses.reverse().write_csv(import_study.parent / "bpb.csv")
    assert [str(outcome.task) for outcome in run(settings)] == ["imported_bpb"]


def test_a_model_without_scores_is_listed_and_does_not_fail_the_fan_in(import_study):
    _, scores = imported_tables()
    scores.filter(pl.col("slug") != "model-05").write_csv(import_study.parent / "scores.csv")
    settings = settings_of(import_study)
    assert all(outcome.error is None for outcome in run(settings))
    errors = tables_of(settings)["benchmark_errors"]
    assert errors.group_by("target").len()["len"].to_list() == [11, 11]


def test_fewer_models_than_the_minimum_fail_with_the_count(import_study):
    _, scores = imported_tables()
    scores.filter(pl.col("slug") < "model-09").write_csv(import_study.parent / "scores.csv")
    failed = [outcome for outcome in run(settings_of(import_study)) if outcome.error]
    assert [str(outcome.task) for outcome in failed] == ["benchmark_errors"]
    assert failed[0].bad_input
    assert "9 models have losses and scores, expected at least 10" in failed[0].error


def test_a_removed_model_leaves_no_row_and_does_not_come_back_with_old_results(import_study):
    settings = settings_of(import_study)
    ran_without_error(settings)
    losses, scores = imported_tables()
    for frame, name in ((losses, "bpb.csv"), (scores, "scores.csv")):
        frame.filter(pl.col("slug") != "model-11").write_csv(import_study.parent / name)
    run(settings)
    for name, frame in tables_of(settings).items():
        if "slug" in frame.columns:
            assert "model-11" not in frame["slug"], name
    assert "model-11" not in Workspace(settings).lake.partitions("domain_logliks")
    write_import_study(import_study.parent)
    ran = ran_without_error(settings)
    assert ran["domain_logliks (1 imported models)"] == ("model-11",)


def test_a_damaged_part_is_made_again_and_the_others_are_left(import_study):
    settings = settings_of(import_study)
    ran_without_error(settings)
    before = tables_of(settings)
    path = Workspace(settings).lake.path("domain_logliks", "model-04")
    path.write_bytes(path.read_bytes()[:100])
    assert [outcome.task.imported for outcome in run(settings)] == [("model-04",)]
    assert_same_tables(tables_of(settings), before)


def test_select_brings_up_to_date_only_what_the_asset_needs(import_study):
    ran = {outcome.task.asset for outcome in run(settings_of(import_study), ["benchmark_errors"])}
    assert "benchmark_errors" in ran
    assert not {"correlation_estimates", "warehouse_file"} & ran


def test_an_unknown_asset_is_told_with_the_nearest(import_study):
    with pytest.raises(InputError, match=r"no asset 'signal_gat' .did you mean 'signal_gate'"):
        run(settings_of(import_study), ["signal_gat"])


def test_a_state_folder_belongs_to_one_study(import_study):
    settings = settings_of(import_study)
    run(settings, ["imported_bpb"])
    import_study.write_text(import_study.read_text().replace("name: imported", "name: other"))
    with pytest.raises(InputError, match="holds the results of study 'imported', expected 'other'"):
        run(settings, ["imported_bpb"])
    # Nor is it read as another one's: what exports, lists and explains opens a workspace alone.
    with pytest.raises(InputError, match="holds the results of study 'imported', expected 'other'"):
        assert Workspace(settings).study


def test_killed_at_random_moments_and_run_again_it_ends_in_the_same_tables(finished, tmp_path):
    """The process and all its workers, with SIGKILL, at moments spread over a whole run."""
    study = write_import_study(tmp_path)
    settings = settings_of(study)
    command = [sys.executable, "-m", "ppl_assets", "run", "--study", str(study), "--state", str(settings.state)]
    rng = random.Random(0)
    parts: set[Path] = set()
    for _ in range(4):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        _wait_for_new_parts(process, settings.lake, parts, rng.randint(1, 6))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        parts = set(settings.lake.rglob("*.parquet"))
        for path in parts:
            assert pl.read_parquet(path).height >= 0, "no half-written part under a final name"
    # In workers like the undisturbed run: another number of BLAS threads shows in the last digit of an estimate.
    assert all(outcome.error is None for outcome in run(settings, workers=2))
    assert_same_tables(tables_of(settings), tables_of(finished[0]))
    assert not list(settings.state.rglob(".*.tmp"))


def _wait_for_new_parts(process: subprocess.Popen, lake: Path, known: set[Path], wanted: int) -> None:
    """Until `wanted` parts more than `known` are there, or the process has ended."""
    deadline = time.monotonic() + 600
    while process.poll() is None and len(set(lake.rglob("part.parquet")) - known) < wanted:
        assert time.monotonic() < deadline, "the run makes no progress"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)  # looking on must not take the time of what is looked at


def test_every_asset_of_the_study_was_run(finished):
    settings, outcomes = finished
    applying = {asset for asset, recipe in RECIPES.items() if recipe.applies(Workspace(settings))}
    empty = {"chunk_logliks"}
    assert {outcome.task.asset for outcome in outcomes} == applying - empty
