"""Every engine for real: the same partitions, identical tables, one step at a time where the pool has one slot."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import dagster as dg
import polars as pl
import pytest

from ppl_assets.orchestration.instance import open_instance, prepare
from ppl_assets.orchestration.provenance import RECIPES, is_current
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.engines import (
    ENGINES,
    PARTITIONS,
    STUDY,
    Engine,
    celery_with_runs,
    commented_blocks,
    k8s,
    materialize,
    ray,
    write_home,
)
from ppl_assets_tests.orchestration.postgres import postgresql
from ppl_assets_tests.orchestration.test_runner import run, settings_of
from ppl_assets_tests.web_ui import Server, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Settings:
    """A study of which all is there that the partitions under test are computed from, and not they."""
    folder = tmp_path_factory.mktemp("engines")
    (folder / "study.yaml").write_text(STUDY)
    settings = settings_of(folder / "study.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        outcomes = run(settings, ["model_registry", "corpus_chunks", "benchmark_tasks"])
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    Workspace(settings).lake.remove("zoo_checkpoints", PARTITIONS["model_zoo"])
    for model in settings.models.glob(f"{PARTITIONS['model_zoo']}-*"):
        shutil.rmtree(model)
    return settings


@pytest.fixture
def settings(prepared, tmp_path) -> Settings:
    """The prepared study, with a state of one's own."""
    shutil.copytree(prepared.state, tmp_path / "state")
    return Settings(state=tmp_path / "state", study=prepared.study)


@pytest.fixture(scope="module")
def by_the_command_line(prepared, tmp_path_factory) -> dict[str, pl.DataFrame]:
    """The tables as the command line computes them, in its own process."""
    state = tmp_path_factory.mktemp("reference") / "state"
    shutil.copytree(prepared.state, state)
    settings = Settings(state=state, study=prepared.study)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        outcomes = run(settings, list(PARTITIONS))
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    return tables(settings)


def tables(settings: Settings) -> dict[str, pl.DataFrame]:
    """What the partitions under test hold."""
    lake = Workspace(settings).lake
    return {asset: lake.read(RECIPES[asset].tables[0], partition) for asset, partition in PARTITIONS.items()}


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_materializes_the_same_partitions_to_identical_tables(
    name, settings, by_the_command_line, tmp_path, monkeypatch
):
    with ENGINES[name](settings, tmp_path) as engine:
        assert launcher_of(engine) == LAUNCHERS[name]
        monkeypatch.setenv("DAGSTER_HOME", engine.environment["DAGSTER_HOME"])
        prepare(settings)
        with open_instance() as instance, a_taken_slot(instance) as free_when_all_wait:
            materialize(engine, PARTITIONS, tmp_path, started=free_when_all_wait)
        found = tables(settings)
        for asset, expected in by_the_command_line.items():
            assert found[asset].equals(expected), asset
            assert is_current(Workspace(settings), asset, PARTITIONS[asset])
        with open_instance() as instance:
            runs = {run.run_id: asset for asset, run in latest_runs(instance).items()}
            EXECUTED_BY[name](engine, instance, runs)
            assert_one_at_a_time([span(instance, run_id) for run_id in runs])


LAUNCHERS = {
    "multiprocess": "DefaultRunLauncher",
    "celery": "CeleryRunLauncher",
    "ray": "RayRunLauncher",
    "k8s": "K8sRunLauncher",
}


def launcher_of(engine: Engine) -> str:
    """What would start runs, as the instance of the engine's dagster.yaml loads it."""
    code = "import dagster; print(type(dagster.DagsterInstance.get().run_launcher).__name__)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, env=engine.environment, capture_output=True, text=True, check=True).stdout.strip()


def backfill_by_the_web_ui(engine: Engine, settings: Settings) -> None:
    """Request one partition as a page does, and wait until it is there."""
    with serving(settings, engine.environment) as server:
        backfill = server.launch_backfill(["chunk_logliks"], ["mail-step1"])
        assert server.finished_backfill(backfill) == "COMPLETED_SUCCESS"


LAUNCHED = {
    "celery": (celery_with_runs, "Celery task has been forwarded to the broker."),
    "ray": (ray, "Ray run job created"),
}


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_backfill_of_the_web_ui_goes_through_the_launcher_of_an_engine_to_its_executor(
    name, settings, by_the_command_line, tmp_path, monkeypatch
):
    """The daemon's launcher hands the run to the engine, and the executor in it the step."""
    start, said = LAUNCHED[name]
    with start(settings, tmp_path) as engine:
        backfill_by_the_web_ui(engine, settings)
        rows = Workspace(settings).lake.read("chunk_logliks", "mail-step1")
        assert rows.equals(by_the_command_line["chunk_logliks"])
        for variable, value in engine.environment.items():
            monkeypatch.setenv(variable, value)
        with open_instance() as instance:
            (record,) = instance.get_run_records(dg.RunsFilter(tags={"dagster/partition": "mail-step1"}), limit=1)
            run_id = record.dagster_run.run_id
            assert said in messages(instance, run_id)
            EXECUTED_BY[name](engine, instance, {run_id: "chunk_logliks"})


def test_a_backfill_of_the_web_ui_is_launched_on_kubernetes_and_runs_there(settings, tmp_path, monkeypatch):
    """The daemon's launcher makes the pod of the run, and the executor in it the pod of the step."""
    with k8s(settings, tmp_path) as engine:
        backfill_by_the_web_ui(engine, settings)
        assert is_current(Workspace(settings), "chunk_logliks", "mail-step1")
        for variable, value in engine.environment.items():
            monkeypatch.setenv(variable, value)
        with open_instance() as instance:
            (record,) = instance.get_run_records(dg.RunsFilter(tags={"dagster/partition": "mail-step1"}), limit=1)
            said = messages(instance, record.dagster_run.run_id)
        assert "[K8sRunLauncher] Kubernetes run worker job created" in said
        run_pod, step_pod = engine.cluster.jobs.values()
        assert not run_pod["spec"]["template"]["spec"]["containers"][0].get("resources")
        assert step_pod["metadata"]["ownerReferences"][0]["name"] == run_pod["metadata"]["name"]


def test_every_block_of_the_packaged_settings_is_tested():
    assert commented_blocks().keys() == {"storage", *LAUNCHERS.values()} - {"DefaultRunLauncher"}


def test_runs_are_kept_in_postgresql(settings, tmp_path, monkeypatch):
    with postgresql() as (port, password):
        block = commented_blocks()["storage"]
        block["storage"]["postgres"]["postgres_db"] |= {"port": port}
        monkeypatch.setenv("PPL_POSTGRES_HOST", "127.0.0.1")
        monkeypatch.setenv("PPL_POSTGRES_USER", "dagster")
        monkeypatch.setenv("PPL_POSTGRES_PASSWORD", password)
        monkeypatch.setenv("DAGSTER_HOME", str(write_home(tmp_path, block)))
        (outcome,) = run(settings, ["model_zoo"])
        assert (str(outcome.task), outcome.error) == ("model_zoo[json]", None)
        with open_instance() as instance:
            assert type(instance.run_storage).__name__ == "PostgresRunStorage"
            (record,) = instance.get_run_records()
            assert record.dagster_run.is_success
            assert instance.get_dynamic_partitions("run") == ["mail", "json"]
            assert instance.event_log_storage.get_concurrency_info("gpu").slot_count == 1


def latest_runs(instance: dg.DagsterInstance) -> dict[str, dg.DagsterRun]:
    """The run that materialized each partition under test."""
    events = {
        asset: instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition]), limit=1
        ).records[0]
        for asset, partition in PARTITIONS.items()
    }
    return {asset: instance.get_run_by_id(record.run_id) for asset, record in events.items()}


@contextmanager
def a_taken_slot(instance: dg.DagsterInstance) -> Iterator[Callable[[], None]]:
    """The only slot of the pool ``gpu`` taken by the test, and what gives it back once all steps wait for it.

    Steps that ask for a free slot in the same instant may all get it (docs/executors.md); those that wait do not.
    """
    storage = instance.event_log_storage
    storage.set_concurrency_slots("gpu", 1)
    assert storage.claim_concurrency_slot("gpu", "the-test", "step").is_claimed

    def give_back() -> None:
        storage.free_concurrency_slots_for_run("the-test")

    def free_when_all_wait() -> None:
        Server.await_answer(lambda: str(storage.get_concurrency_info("gpu").pending_step_count), {str(len(PARTITIONS))})
        give_back()

    try:
        yield free_when_all_wait
    finally:
        give_back()


def span(instance: dg.DagsterInstance, run_id: str) -> tuple[float, float]:
    """When a run's only step began and ended."""
    kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS}
    times = [record.event_log_entry.timestamp for record in instance.get_records_for_run(run_id, of_type=kinds).records]
    assert len(times) == 2
    return min(times), max(times)


def assert_one_at_a_time(spans: list[tuple[float, float]]) -> None:
    """The pool ``gpu`` has one slot, and every engine here could run two steps."""
    spans = sorted(spans)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans)), spans


def messages(instance: dg.DagsterInstance, run_id: str) -> str:
    """What the log of a run says."""
    return "\n".join(record.event_log_entry.message for record in instance.get_records_for_run(run_id).records)


def _processes_of_this_host(engine: Engine, instance: dg.DagsterInstance, runs: dict[str, str]) -> None:
    for run_id in runs:
        assert "Launching subprocess" in messages(instance, run_id)


def _worker_of_the_queue(engine: Engine, instance: dg.DagsterInstance, runs: dict[str, str]) -> None:
    for run_id, asset in runs.items():
        assert f'Submitting celery task for step "{asset}" to queue "gpu".' in messages(instance, run_id)
    assert engine.log.read_text().count("succeeded in") == len(runs)


def _jobs_of_the_cluster(engine: Engine, instance: dg.DagsterInstance, runs: dict[str, str]) -> None:
    for run_id, asset in runs.items():
        assert f'Executing step "{asset}" in Ray job' in messages(instance, run_id)


def _pods_with_a_gpu(engine: Engine, instance: dg.DagsterInstance, runs: dict[str, str]) -> None:
    posted = {job["metadata"]["labels"]["dagster/run-id"]: job for job in engine.cluster.jobs.values()}
    assert posted.keys() == runs.keys()
    for run_id, asset in runs.items():
        pod = posted[run_id]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
        assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
        assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        assert posted[run_id]["metadata"]["labels"]["dagster/op"] == asset
        (owner,) = posted[run_id]["metadata"]["ownerReferences"]
        assert owner["name"] == "the-run-pod"


EXECUTED_BY = {
    "multiprocess": _processes_of_this_host,
    "celery": _worker_of_the_queue,
    "ray": _jobs_of_the_cluster,
    "k8s": _pods_with_a_gpu,
}
