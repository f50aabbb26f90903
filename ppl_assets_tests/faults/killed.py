"""What the kill tests run in child processes: a whole run that ends itself at its n-th write, if it gets that far.

A module of its own, so that the fork server imports it once and each child begins within milliseconds.
"""

import os
import signal
import sys
from typing import Any

from ppl_assets.orchestration.runner import run_stale
from ppl_assets.orchestration.whole_graph import asset_levels, whole_graph
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_runner import Silent

# Audit events of Python that change a file's name or content; SQLite's and DuckDB's own writes raise none, and are hit
# by the kills at random moments.
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "sqlite3.connect"}

# The graph is resolved before the first fork.
whole_graph().resolve_implicit_global_asset_job_def()
asset_levels()


def run_until_write(settings: Settings, number: int | None) -> None:
    """Bring the state up to date; die without a word just before write number `number`, from 1."""
    import torch

    torch.set_num_threads(1)
    if number is not None:
        _die_at(str(settings.state), number)
    outcomes = run_stale(settings, select=None, display=Silent(), workers=1)
    failed = [outcome.error for outcome in outcomes if outcome.error]
    sys.stderr.writelines(f"{error}\n" for error in failed)
    sys.stderr.flush()
    os._exit(1 if failed else 0)


def _die_at(state: str, number: int) -> None:
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if not _changes(event, arguments, state):
            return
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _changes(event: str, arguments: tuple[Any, ...], state: str) -> bool:
    if event == "open":
        path, _, flags = arguments
        return isinstance(path, str) and path.startswith(state) and bool(flags & (os.O_WRONLY | os.O_RDWR))
    return event in _CHANGES and str(arguments[0]).startswith(state)
