"""Processes of this host, told apart even where a number is used again: so what a killed one left is recognised."""

import fcntl
import hashlib
import multiprocessing
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil

_TEMPORARY = re.compile(r"\..+-(?P<place>[0-9a-f]{8})-(?P<mark>\d+@[\d.]+)-[0-9a-f]{32}\.tmp", re.DOTALL)
_FOREIGN_SECONDS = 7 * 24 * 3600


def process_mark() -> str:
    """This process: its number and the time it began."""
    return _mark(psutil.Process(os.getpid()))


def ancestor_mark(pid: int) -> str | None:
    """The mark of process `pid`, if it is this one or one that this one descends from."""
    own = psutil.Process(os.getpid())
    return next((_mark(process) for process in (own, *own.parents()) if process.pid == pid), None)


def is_running(mark: str) -> bool:
    """Whether the process that gave itself `mark` still runs; one that ended and was not waited for does not."""
    try:
        process = psutil.Process(int(mark.partition("@")[0]))
        return _mark(process) == mark and process.status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.NoSuchProcess):
        return False


def temporary_path(path: Path) -> Path:
    """A name beside `path` to write to before it is renamed; it says which process writes, and where."""
    return path.parent / f".{path.name}-{_place()}-{process_mark()}-{uuid.uuid4().hex}.tmp"


def is_abandoned(temporary: Path) -> bool:
    """Whether a file or folder has a name of `temporary_path` whose writer has ended.

    Of a writer on another host or in another container nothing is known: what nobody touched for a week is taken to be
    abandoned.
    """
    name = _TEMPORARY.fullmatch(temporary.name)
    if name is None:
        return False
    if name["place"] == _place():
        return not is_running(name["mark"])
    try:
        return time.time() - temporary.stat().st_mtime > _FOREIGN_SECONDS
    except FileNotFoundError:
        return False


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock file `path` of this host, waiting for whoever holds it; the system frees it when a holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock file `path`."""
    if not path.exists():
        return False
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """Let this worker process end as soon as the process that started it has: killed or not, it must not work on."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a process that multiprocessing started has a parent"

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@cache
def _place() -> str:
    """This host or, in a container, this container: wherever the number of a process means the same process."""
    namespace = Path("/proc/self/ns/pid")
    where = f"{socket.gethostname()} {os.readlink(namespace) if namespace.exists() else ''}"
    return hashlib.blake2b(where.encode(), digest_size=4).hexdigest()


def _mark(process: psutil.Process) -> str:
    return f"{process.pid}@{_began(process)}"


def _began(process: psutil.Process) -> str:
    """When a process began, in clock ticks since the host did: setting the clock moves the date of a beginning.

    Field 22 of /proc/PID/stat (proc(5)), counted behind the name, which may hold blanks. Elsewhere the date, which
    other systems keep with the process.
    """
    try:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return f"{process.create_time():.2f}"
