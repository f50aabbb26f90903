"""The persistent Dagster instance of a state folder, shared by the command line, the web UI and the daemon."""

import os
import socket
from pathlib import Path

import dagster as dg

from ppl_assets.errors import InputError
from ppl_assets.orchestration.partitions import arm_partitions, model_partitions, run_partitions
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.processes import is_running, process_mark
from ppl_assets.settings import Settings
from ppl_assets.warehouse import Lake, remove_abandoned, replace_file

HOME = Path(__file__).parent
WORKSPACE_FILE = HOME / "workspace.yaml"
# Who executes a run that no daemon watches: host and process.
EXECUTOR_TAG = "ppl_assets/process"


def prepare(settings: Settings) -> None:
    """Make the state folder ready for `settings` and point this process and its children at it.

    Raises:
        InputError: the folder is not writable, or it or the lake belongs to another study.
    """
    marker = settings.state / "study"
    name = Workspace(settings).study.name
    if marker.is_file() and marker.read_text().strip() != name:
        raise InputError(
            f"{settings.state}: holds the results of study {marker.read_text().strip()!r}, expected {name!r}; "
            "choose another folder with --state, or delete this one"
        )
    replace_file(marker, name + "\n")
    if settings.shared_lake is not None:
        Lake(settings.shared_lake).claim(name)
    settings.export()
    os.environ.setdefault("DAGSTER_HOME", str(HOME))
    for folder in {settings.state, settings.lake}:
        if isinstance(folder, Path):
            remove_abandoned(folder)


def open_instance() -> dg.DagsterInstance:
    """The instance that DAGSTER_HOME names."""
    return dg.DagsterInstance.get()


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


def fail_abandoned_runs(instance: dg.DagsterInstance) -> int:
    """Mark as failed what a killed command line left as running; returns how many runs that were."""
    unfinished = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
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
