"""Materialize what is missing or stale: real Dagster runs, a worker process per core, no new interpreter per partition.

Assets are taken level by level of the graph; within a level, every stale partition is one run. A worker process loads
Dagster (and torch, once a model is needed) a single time and executes its runs in process, on the same persistent
instance that the web UI reads. What fails is reported and left stale; what does not depend on it goes on.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import dagster as dg

from ppl_assets.errors import InputError, suggestion
from ppl_assets.orchestration.attempts import ATTEMPT_TAG, attempt_key
from ppl_assets.orchestration.instance import (
    EXECUTOR_TAG,
    fail_abandoned_runs,
    open_gpu_pool,
    open_instance,
    prepare,
    process_tag,
    sync_partitions,
)
from ppl_assets.orchestration.progress_reports import StepProgress, listen
from ppl_assets.orchestration.provenance import RECIPES, is_current, partitions
from ppl_assets.orchestration.workers import Workers
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.processes import available_cores
from ppl_assets.registry import only_imported
from ppl_assets.settings import Settings

# Assets whose partitions of imported models hold imported rows and nothing that is computed.
_HELD_BY_IMPORTS = ("domain_logliks", "benchmark_scores")


@dataclass(frozen=True, slots=True)
class Task:
    """One Dagster run: an asset, with its partition where it has any; of imported models, all partitions at once."""

    asset: str
    partition: str | None = None
    imported: tuple[str, ...] = ()
    attempt: str = field(default="", compare=False)

    def __str__(self) -> str:
        if self.imported:
            return f"{self.asset} ({len(self.imported)} imported models)"
        return self.asset if self.partition is None else f"{self.asset}[{self.partition}]"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended; `error` is a sentence where it failed, `bad_input` says whether the user can repair it."""

    task: Task
    seconds: float
    error: str | None = None
    bad_input: bool = False


class Display(Protocol):
    """Who shows what happens."""

    def level(self, tasks: list[Task]) -> None:
        """A level of the graph begins, with these tasks."""

    def progress(self, update: StepProgress) -> None:
        """A task went on."""

    def finished(self, outcome: Outcome) -> None:
        """A task ended."""


def run_stale(
    settings: Settings,
    *,
    select: Iterable[str] | None,
    display: Display,
    pilot_arms: Collection[str] | None = None,
    workers: int | None = None,
) -> list[Outcome]:
    """Materialize every selected asset and partition that is missing or stale, in the order of the graph.

    Args:
        select: assets to bring up to date, with all that they depend on; None: the whole graph. What runs on request
            alone (the pilot) runs where one of its assets is selected.
        pilot_arms: arms of the pilot that run, and are compared, though none of its assets is selected; None: no arm
            then, and every arm where one is.
        workers: processes that execute runs, by default one per core; with 1 it is this process,
            without a time limit.

    Returns:
        One outcome per run, in the order in which they ended.

    Raises:
        InputError: the study or the state folder cannot be used, or `select` names no asset.
    """
    prepare(settings)
    workspace = Workspace(settings)
    wanted = set(RECIPES) if select is None and pilot_arms else _with_upstream(select)
    outcomes: list[Outcome] = []
    count = worker_count() if workers is None else workers
    with open_instance() as instance, Workers(count, _execute, seconds=settings.partition_seconds) as pool:
        fail_abandoned_runs(instance)
        sync_partitions(instance, workspace)
        open_gpu_pool(instance, workers=count)
        blocked: set[str] = set()
        failed: set[tuple[str, str | None]] = set()
        for level in levels():
            assets = [asset for asset in level if asset in wanted and RECIPES[asset].applies(workspace)]
            ready = [asset for asset in assets if not blocked & _depends_on(asset)]
            blocked |= set(assets) - set(ready)
            stale = [task for asset in ready for task in stale_tasks(workspace, asset)]
            tasks = [task for task in stale if _is_wanted(task, pilot_arms) and not _waits(task, failed)]
            if not tasks:
                continue
            display.level(tasks)
            for outcome in _outcomes(None if workers == 1 else pool, tasks, display.progress):
                if outcome.error:
                    fail_abandoned_runs(instance)
                outcomes.append(outcome)
                display.finished(outcome)
                # A failed partition is one model less; a failed whole asset leaves nothing to go on from.
                if outcome.error and RECIPES[outcome.task.asset].partitioned_by is None:
                    blocked.add(outcome.task.asset)
                elif outcome.error:
                    failed.add((outcome.task.asset, outcome.task.partition))
    return outcomes


def _is_wanted(task: Task, pilot_arms: Collection[str] | None) -> bool:
    return pilot_arms is None or RECIPES[task.asset].partitioned_by != "arm" or task.partition in pilot_arms


def _waits(task: Task, failed: set[tuple[str, str | None]]) -> bool:
    """Whether the same partition of something that the task needs has just failed."""
    return any((upstream, task.partition) in failed for upstream in _depends_on(task.asset))


def stale_tasks(workspace: Workspace, asset: str) -> list[Task]:
    """The runs that would bring an asset up to date."""
    stale = [part for part in partitions(workspace, asset) if not is_current(workspace, asset, part)]
    batch: tuple[str, ...] = ()
    if asset in _HELD_BY_IMPORTS:
        batch = tuple(slug for slug in stale if slug is not None and only_imported(workspace.study, slug))
    tasks = [Task(asset, part, attempt=attempt_key(workspace, asset, part)) for part in stale if part not in batch]
    return [Task(asset, imported=batch), *tasks] if batch else tasks


def levels() -> list[list[str]]:
    """Assets in topological order, those that can run side by side together."""
    from ppl_assets.orchestration.whole_graph import asset_levels

    return asset_levels()


def _with_upstream(select: Iterable[str] | None) -> set[str]:
    on_request = {asset for asset, recipe in RECIPES.items() if recipe.on_request}
    if select is None:
        return set(RECIPES) - on_request
    chosen = set(select)
    unknown = sorted(chosen - set(RECIPES))
    if unknown:
        choices = ", ".join(RECIPES)
        raise InputError(
            f"--select: no asset {unknown[0]!r}{suggestion(unknown[0], RECIPES)}; expected one of {choices}"
        )
    wanted = chosen | {asset for each in chosen for asset in _depends_on(each)}
    return wanted if chosen & on_request else wanted - on_request


def _depends_on(asset: str) -> set[str]:
    from ppl_assets.orchestration.whole_graph import upstream_of

    return upstream_of(asset)


def worker_count() -> int:
    """Worker processes: one per core that this process may use."""
    return available_cores()


def _outcomes(pool: Workers[Task] | None, tasks: list[Task], show: Callable[[StepProgress], None]) -> Iterator[Outcome]:
    """What came of each task, as it comes."""
    if pool is None:
        yield from (_execute(task, show) for task in tasks)
        return
    for done in pool.run(tasks, show):
        yield Outcome(done.work, 0.0, error=f"{done.work}: {done.lost}") if done.lost else done.result


def _execute(task: Task, show: Callable[[StepProgress], None]) -> Outcome:
    """One Dagster run in this process; that it cannot be recorded is a way to fail as well."""
    began = time.monotonic()
    try:
        return _run(task, show)
    except InputError as error:
        return Outcome(task, time.monotonic() - began, error=f"{task}: {error}", bad_input=True)


def _run(task: Task, show: Callable[[StepProgress], None]) -> Outcome:
    from ppl_assets.orchestration.whole_graph import whole_graph

    listen(show)
    began = time.monotonic()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    tags = {EXECUTOR_TAG: process_tag()} | ({ATTEMPT_TAG: task.attempt} if task.attempt else {})
    defs = whole_graph()
    with open_instance() as instance:
        if task.imported:
            config: dict[str, Any] = {"asset": task.asset, "slugs": list(task.imported)}
            ops = {"store_imported_partitions": {"config": config}}
            result = defs.resolve_job_def("imported_partitions").execute_in_process(
                instance=instance, run_config={"ops": ops, **quiet}, tags=tags, raise_on_error=False
            )
        else:
            result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(task.asset)],
                partition_key=task.partition,
                run_config=quiet,
                tags=tags,
                raise_on_error=False,
            )
    seconds = time.monotonic() - began
    if result.success:
        return Outcome(task, seconds)
    error, bad_input = _failure(result)
    return Outcome(task, seconds, error=f"{task}: {error}", bad_input=bad_input)


def _failure(result: dg.ExecuteInProcessResult) -> tuple[str, bool]:
    """The message of the exception that ended a run, and whether it is the user's to repair."""
    for event in result.all_events:
        failure = event.event_specific_data if event.is_step_failure else None
        error = getattr(failure, "error", None)
        while error is not None:
            if error.cause is None or error.cls_name == "InputError":
                message = error.message.strip().removeprefix(f"{error.cls_name}: ")
                name = (error.cls_name or "").rpartition(".")[2]
                bad = name == "InputError"
                return (message.partition("InputError: ")[2] or message) if bad else f"{name}: {message}", bad
            error = error.cause
    return "the run failed without a step failure; see its log in the web UI", False
