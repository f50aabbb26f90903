"""What serves the web UI is killed while a backfill runs: a step's process, a run's, the daemon, the web server.

With SIGKILL, at a seeded moment of what they do. Wherever it hits, no table is half-written, nothing that was finished
is lost, and what was requested goes on where the UI still runs, or once it has been started again.
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import psutil
import pytest

from ppl_assets.orchestration.instance import open_instance, prepare
from ppl_assets.orchestration.status import partition_states
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets_tests.faults.invariants import (
    assert_nothing_is_half_written,
    assert_nothing_was_lost,
    finished_work,
)
from ppl_assets_tests.orchestration.test_runner import assert_same_tables, run, settings_of
from ppl_assets_tests.scored_study import MODELS, write_scored_study
from ppl_assets_tests.web_ui import SECONDS_TO_FINISH, Server, select_nothing_for_a_moment, serving

pytestmark = pytest.mark.slow

SCORED = ["chunk_logliks", "domain_logliks"]
# Of a run's life of some seconds on a quiet machine.
MOST_SECONDS = 3.0


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return write_scored_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def undisturbed(study) -> dict[str, pl.DataFrame]:
    """The scores of a command line that nobody disturbs."""
    settings = settings_of(study, "undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        assert not any(outcome.error for outcome in run(settings, SCORED, workers=2))
    return scores(settings)


@pytest.fixture
def settings(study, tmp_path) -> Settings:
    """A state in which nothing is missing that scores need, and no model is scored."""
    settings = Settings(state=tmp_path / "state", study=str(study))
    assert not any(outcome.error for outcome in run(settings, ["corpus_chunks", "model_registry"], workers=2))
    prepare(settings)
    return settings


def scores(settings: Settings) -> dict[str, pl.DataFrame]:
    workspace = Workspace(settings)
    return {asset: workspace.by_model(asset) for asset in SCORED}


def named_by(event: dg.DagsterEventType) -> Iterator[psutil.Process]:
    """The process that an event of this kind names first, of each run that is being executed."""
    with open_instance() as instance:
        for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            entries = instance.all_logs(run.run_id, of_type=event)
            told = [entry.dagster_event.engine_event_data.metadata for entry in entries]
            pids = [int(metadata["pid"].value) for metadata in told if "pid" in metadata]
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                yield psutil.Process(pids[0])


def a_run_worker(_: Server) -> psutil.Process | None:
    return next(named_by(dg.DagsterEventType.ENGINE_EVENT), None)


def a_step(_: Server) -> psutil.Process | None:
    """A process that the multiprocess executor started for a step."""
    return next(named_by(dg.DagsterEventType.STEP_WORKER_STARTED), None)


def service(module: str) -> Callable[[Server], psutil.Process | None]:
    """The process of the UI that runs a module, once there is a run that its death can disturb."""

    def found(server: Server) -> psutil.Process | None:
        if a_run_worker(server) is None:
            return None
        children = psutil.Process(server.process.pid).children()
        return next(child for child in children if module in child.cmdline())

    return found


def kill_one(server: Server, find: Callable[[Server], psutil.Process | None], rng: random.Random) -> None:
    """Kill one of what `find` finds, at a random moment of its life."""
    for _ in range(SECONDS_TO_FINISH):
        with contextlib.suppress(psutil.NoSuchProcess):
            victim = find(server)
            if victim is None:
                select_nothing_for_a_moment()
                continue
            with contextlib.suppress(psutil.TimeoutExpired):
                victim.wait(timeout=rng.uniform(0, MOST_SECONDS))
            victim.kill()
            return
    raise AssertionError("nothing was found to kill")


def missing(settings: Settings) -> list[str]:
    """Models whose scores are not current."""
    states = partition_states(Workspace(settings))
    return sorted({each.partition for each in states if each.asset in SCORED and each.state != "current"})


def complete(server: Server, settings: Settings, backfill: str) -> None:
    """Wait for a backfill that was disturbed, and request what it has left."""
    server.finished_backfill(backfill)
    left = missing(settings)
    # Two runs at a time: no more than two can have been hit, and everything else was done without another request.
    assert len(left) <= 2
    if left:
        again = server.launch_backfill(SCORED, left)
        assert server.finished_backfill(again) == "COMPLETED_SUCCESS"


def assert_complete(settings: Settings, before: dict, undisturbed: dict[str, pl.DataFrame]) -> None:
    assert_nothing_is_half_written(settings)
    assert_nothing_was_lost(before, finished_work(settings))
    assert_same_tables(scores(settings), undisturbed)
    assert run(settings, SCORED, workers=2) == []


@pytest.mark.parametrize("find", [a_step, a_run_worker])
def test_a_killed_process_costs_its_partition_and_the_backfill_goes_on(find, settings, undisturbed):
    with serving(settings) as server:
        backfill = server.launch_backfill(SCORED, list(MODELS))
        kill_one(server, find, random.Random(find.__name__))
        before = finished_work(settings)
        assert_nothing_is_half_written(settings)
        complete(server, settings, backfill)
    assert_complete(settings, before, undisturbed)


@pytest.mark.parametrize("module", ["dagster._daemon", "dagster_webserver"])
def test_a_killed_service_ends_the_ui_and_started_again_it_goes_on_with_the_backfill(module, settings, undisturbed):
    with serving(settings) as server:
        backfill = server.launch_backfill(SCORED, list(MODELS))
        kill_one(server, service(module), random.Random(module))
        before = finished_work(settings)
        assert_nothing_is_half_written(settings)
        server.process.wait(timeout=SECONDS_TO_FINISH)
    with serving(settings) as server:
        complete(server, settings, backfill)
    assert_complete(settings, before, undisturbed)


def test_two_backfills_of_one_model_at_once_score_it_once_and_end_in_the_same_tables(settings, undisturbed):
    with serving(settings) as server:
        backfills = [server.launch_backfill(SCORED, [MODELS[0]]) for _ in range(2)]
        assert [server.finished_backfill(backfill) for backfill in backfills] == ["COMPLETED_SUCCESS"] * 2
        runs = [run for backfill in backfills for run in server.runs_of_backfill(backfill)]
    assert [run["status"] for run in runs] == ["SUCCESS"] * 4
    assert_nothing_is_half_written(settings)
    of_one = {asset: rows.filter(pl.col("slug") == MODELS[0]) for asset, rows in undisturbed.items()}
    assert_same_tables(scores(settings), of_one)
    footer = Workspace(settings).lake.footer("chunk_logliks", MODELS[0])
    assert footer.cost["tokens"] == 0, "the second run found all losses known"
