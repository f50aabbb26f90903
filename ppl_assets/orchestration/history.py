"""Dagster's own record of runs: what must be forgotten is deleted, run by run, and its pages in the files are freed."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import dagster as dg

from ppl_assets.errors import InputError
from ppl_assets.orchestration.instance import open_instance
from ppl_assets.settings import Settings

_INDEX = "index"


def forget_runs(settings: Settings, mentions: Callable[[Path], bool]) -> int:
    """Delete every run of which a file mentions something, with its events and logs; returns how many there were.

    An asset that such a run materialized is shown as not materialized until it runs again.
    """
    storage = settings.state / "dagster"
    forgotten = 0
    with open_instance() as instance:
        for events in sorted((storage / "history" / "runs").glob("*.db")):
            run, logs = events.stem, storage / events.stem
            if run == _INDEX or not any(map(mentions, [events, *(path for path in logs.rglob("*") if path.is_file())])):
                continue
            forgotten += 1
            entries = instance.all_logs(run, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
            keys = {entry.dagster_event.asset_key for entry in entries if entry.dagster_event}
            instance.delete_run(run)
            instance.wipe_assets([key for key in keys if key is not None])
            shutil.rmtree(logs, ignore_errors=True)
            events.unlink()
    return forgotten


def compact(settings: Settings) -> None:
    """Write the files anew without what was deleted from them, and without logs of their own beside them.

    Deleted rows would stay in SQLite's files until something is written over them.

    Raises:
        InputError: another process, such as the web UI, holds a file.
    """
    for path in (settings.state / "dagster").rglob("*.db"):
        try:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            raise InputError(f"{path}: {error}; expected nobody else to use it: close the web UI first") from error
