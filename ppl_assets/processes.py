"""Processes of this host, told apart even where a number is used again: so what a killed one left is recognised."""

import multiprocessing
import os
import threading
import uuid
from pathlib import Path

import psutil


def process_mark() -> str:
    """This process: its number and the time it began."""
    return _mark(psutil.Process(os.getpid()))


def is_running(mark: str) -> bool:
    """Whether the process that gave itself `mark` still runs; one that ended and was not waited for does not."""
    try:
        process = psutil.Process(int(mark.partition("@")[0]))
        return _mark(process) == mark and process.status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.NoSuchProcess):
        return False


def temporary_path(path: Path) -> Path:
    """A name beside `path` to write to before it is renamed; it says which process writes."""
    return path.parent / f".{path.name}-{process_mark()}-{uuid.uuid4().hex}.tmp"


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


def _mark(process: psutil.Process) -> str:
    return f"{process.pid}@{process.create_time():.2f}"
