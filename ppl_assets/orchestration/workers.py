"""Worker processes that execute tasks, each task in one of them: what kills or stops a worker costs that task alone.

Not a pool of the standard library: there one killed process breaks all, nobody can tell which task it was at, and
one that hangs cannot be stopped. Here every worker has a pipe of its own, so that its end is seen at once, and a lock
that it held dies with it.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from ppl_assets.processes import end_with_parent

Work = TypeVar("Work")
# One thread per worker process: two single-threaded models are faster than one that waits on both cores.
_SINGLE_THREAD = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "NUMBA_NUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Update:
    """Something that a piece of work says before it is done."""

    content: Any


@dataclass(frozen=True, slots=True)
class Done(Generic[Work]):
    """How a piece of work ended: with a result, or with the sentence that says how its worker ended instead."""

    work: Work
    result: Any
    lost: str | None = None


# What a worker executes: the work, and where its updates go.
Execute = Callable[[Work, Callable[[Any], None]], Any]


class Workers(Generic[Work]):
    """Up to `count` worker processes, started when there is work and kept; a worker ends with its parent.

    Args:
        execute: a function at the top of a module; an exception in it ends its worker.
        seconds: the most that a piece of work may take.
    """

    def __init__(self, count: int, execute: Execute[Work], *, seconds: float) -> None:
        self.count = count
        self._execute = execute
        self._seconds = seconds
        self._workers: list[_Worker[Work]] = []

    def __enter__(self) -> "Workers[Work]":
        return self

    def __exit__(self, *_: object) -> None:
        # Idle, or cancelled: a worker would otherwise finish its model first, which can take hours.
        for worker in self._workers:
            worker.end()

    def run(self, works: Iterable[Work], show: Callable[[Any], None]) -> Iterator[Done[Work]]:
        """Execute all, yielding what came of each as it comes, and showing their updates meanwhile."""
        waiting = deque(works)
        while waiting or self._busy():
            while waiting and (worker := self._idle()) is not None:
                worker.begin(waiting.popleft())
            for worker in self._heard():
                message = worker.hear()
                if isinstance(message, Update):
                    show(message.content)
                else:
                    yield message
            for worker in [each for each in self._busy() if each.left(self._seconds) <= 0]:
                yield worker.stop(f"was stopped after {_hours(self._seconds)}, the time limit of a partition")

    def _busy(self) -> "list[_Worker[Work]]":
        return [worker for worker in self._workers if worker.work is not None]

    def _idle(self) -> "_Worker[Work] | None":
        """A worker without work, a new one where there may be more, or None."""
        # One that died at its work stays until that is heard, or the work would be lost without a word.
        self._workers = [each for each in self._workers if each.work is not None or each.process.is_alive()]
        idle = next((worker for worker in self._workers if worker.work is None), None)
        if idle is None and len(self._workers) < self.count:
            idle = _Worker(self._execute)
            self._workers.append(idle)
        return idle

    def _heard(self) -> "list[_Worker[Work]]":
        """Workers that have said something or ended, waited for until the time of one is up."""
        by_pipe = {worker.pipe: worker for worker in self._busy()}
        left = min(worker.left(self._seconds) for worker in by_pipe.values())
        return [by_pipe[pipe] for pipe in connection.wait(list(by_pipe), timeout=max(0.0, left))]  # type: ignore[index]


class _Worker(Generic[Work]):
    """One worker process and the parent's end of its pipe."""

    def __init__(self, execute: Execute[Work]) -> None:
        # The libraries' own bars are off: the command line shows how far a worker is.
        for variable in (*_SINGLE_THREAD, "TQDM_DISABLE"):
            os.environ.setdefault(variable, "1")
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, execute))
        self.process.start()
        # With the worker's end open here too, its death would not be heard.
        theirs.close()
        self.work: Work | None = None
        self._began = 0.0

    def begin(self, work: Work) -> None:
        """Send it a piece of work; where it has just died, that is heard like any later death."""
        self.work, self._began = work, time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(work)

    def left(self, seconds: float) -> float:
        """Seconds until the work at hand will have taken too long."""
        return self._began + seconds - time.monotonic()

    def hear(self) -> "Update | Done[Work]":
        """What it says next."""
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            killed = self.process.exitcode == -signal.SIGKILL
            ended = f"ended with exit code {self.process.exitcode}"
            return self.stop(f"the worker process {'was killed (out of memory?)' if killed else ended}")
        if not isinstance(message, Update):
            message, self.work = Done(self.work, message), None
        return message

    def stop(self, how: str) -> "Done[Work]":
        """Kill it; what it was at is lost, told as `how`."""
        work, self.work = self.work, None
        assert work is not None
        self.end()
        return Done(work, None, lost=how)

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: "connection.Connection[Any, Any]", execute: Execute[Any]) -> None:
    """What a worker process does: execute what comes, until its parent is gone."""
    from tqdm import tqdm

    end_with_parent()
    # Its own holds a semaphore of the system, which a worker that is killed would leave behind.
    tqdm.set_lock(threading.RLock())
    lock = threading.Lock()

    def send(message: Any) -> None:
        with lock:
            pipe.send(message)

    with contextlib.suppress(EOFError):
        while True:
            send(execute(pipe.recv(), lambda content: send(Update(content))))


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"
