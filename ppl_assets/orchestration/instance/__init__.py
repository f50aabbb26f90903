"""The persistent Dagster instance of a state folder, shared by the command line, the web UI and the daemon."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from sqlalchemy.exc import OperationalError

from ppl_assets.errors import InputError
from ppl_assets.orchestration.partitions import arm_partitions, model_partitions, run_partitions
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.processes import alone, ancestor_mark, is_running, process_mark
from ppl_assets.settings import DAGSTER_STORAGE_VARIABLE, Settings
from ppl_assets.warehouse import Lake, remove_abandoned, replace_file

HOME = Path(__file__).parent
WORKSPACE_FILE = HOME / "workspace.yaml"
# Who executes a run: host and process. Dagster's local launcher does not notice that a worker is gone once the code
# server that started it was killed too.
EXECUTOR_TAG = "ppl_assets/process"


def prepare(settings: Settings) -> None:
    """Make the state folder ready for `settings` and point this process and its children at it.

    Raises:
        InputError: the folder is not writable, or it or the lake belongs to another study.
    """
    name = Workspace(settings).study.name
    replace_file(settings.study_marker, name + "\n")
    if settings.shared_lake is not None:
        Lake(settings.shared_lake).claim(name)
    settings.export()
    os.environ.setdefault("DAGSTER_HOME", str(HOME))
    for folder in {settings.state, settings.lake}:
        if isinstance(folder, Path):
            remove_abandoned(folder)


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The instance that DAGSTER_HOME names.

    Raises:
        InputError: what is to be recorded cannot be, on a full disk or one that became read-only.
    """
    storage = os.environ[DAGSTER_STORAGE_VARIABLE]
    try:
        with _opened(Path(storage)) as instance:
            yield instance
    except OperationalError as error:
        raise _not_recorded(storage, error.orig) from error


def _opened(storage: Path) -> dg.DagsterInstance:
    """The instance, its databases made: of two processes that open a new state at once, one makes them."""
    try:
        with alone(storage / ".opening"):
            return dg.DagsterInstance.get()
    except OSError as error:
        raise _not_recorded(str(storage), error) from error


def _not_recorded(storage: str, why: BaseException | None) -> InputError:
    return InputError(f"{storage}: runs cannot be recorded ({why}); expected a writable folder with space left")


def sync_partitions(instance: dg.DagsterInstance, workspace: Workspace) -> None:
    """Make Dagster's dynamic partitions those of the study and the registry."""
    keys = (
        (run_partitions, workspace.runs()),
        (model_partitions, workspace.slugs()),
        (arm_partitions, workspace.study.pilot_arms),
    )
    for definition, wanted in keys:
        known = set(instance.get_dynamic_partitions(str(definition.name)))
        instance.add_dynamic_partitions(str(definition.name), [key for key in wanted if key not in known])
        for key in known - set(wanted):
            instance.delete_dynamic_partition(str(definition.name), key)


def open_gpu_pool(instance: dg.DagsterInstance, *, workers: int) -> None:
    """Size the pool ``gpu``: one step per device, or where there is none one per worker; a limit set by hand stays.

    `dagster.yaml` can state a limit for all pools alike, not for one.
    """
    devices = len(list(Path("/dev").glob("nvidia[0-9]*")))
    storage = instance.event_log_storage
    if devices and "gpu" in storage.get_concurrency_keys():
        return
    storage.set_concurrency_slots("gpu", devices or workers)


def process_tag() -> str:
    """This process, as runs that it executes carry it."""
    return f"{socket.gethostname()}:{process_mark()}"


def note_run_worker(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Called by a step: tag its run with the process that executes it, where that is this process or started it.

    The first process that the run's log names is its worker; of one on another host nothing can be said.
    """
    if EXECUTOR_TAG in run.tags:
        return
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    told = [entry.dagster_event.engine_event_data.metadata for entry in entries if entry.dagster_event]
    pids = [str(metadata["pid"].value) for metadata in told if "pid" in metadata]
    mark = ancestor_mark(int(pids[0])) if pids else None
    if mark is not None:
        instance.add_run_tags(run.run_id, {EXECUTOR_TAG: f"{socket.gethostname()}:{mark}"})


def fail_abandoned_runs(instance: dg.DagsterInstance) -> int:
    """Mark as failed what a killed command line or run worker left as running; returns how many runs that were."""
    statuses = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING]
    unfinished = dg.RunsFilter(statuses=statuses)
    abandoned = [run for run in instance.get_runs(unfinished) if _abandoned(run.tags.get(EXECUTOR_TAG))]
    for run in abandoned:
        instance.report_run_failed(run, "the process that executed this run has ended")
    _free_slots_of_ended_runs(instance)
    return len(abandoned)


def _abandoned(tag: str | None) -> bool:
    """Whether a run's tag names a process of this host that is gone."""
    host, _, mark = (tag or "").partition(":")
    return host == socket.gethostname() and not is_running(mark)


def _free_slots_of_ended_runs(instance: dg.DagsterInstance) -> None:
    """A slot that a pool still counts as taken would make the next run wait for ever."""
    storage = instance.event_log_storage
    for run_id in storage.get_concurrency_run_ids():
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
