"""Disks that are full or read-only, files that are damaged, readers in the way, clocks that jump: done, not imagined.

Small file systems are real ones (tmpfs): unlike permissions, they bind the superuser as well.
"""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import polars as pl
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
from ppl_assets_tests.orchestration.engines import write_home
from ppl_assets_tests.orchestration.test_runner import (
    assert_same_tables,
    ran_without_error,
    run,
    settings_of,
    tables_of,
)
from ppl_assets_tests.studies import imported_tables, write_import_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that has run once, undisturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        settings = settings_of(write_import_study(tmp_path_factory.mktemp("finished")))
        assert ran_without_error(settings)
        yield settings


@pytest.fixture
def settings(finished, tmp_path) -> Settings:
    """A finished study of one's own."""
    shutil.copytree(finished.state, tmp_path / "state")
    return settings_of(write_import_study(tmp_path))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


# Without a copy of what steps print: a process under libfaketime 0.9.10 cannot sleep (Python asks for the end of the
# sleep on a clock that does not jump, the library moves it), and Dagster would leave behind who makes the copy.
_NO_COPY = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}


def command(settings: Settings, *, clock: str | None = None) -> subprocess.CompletedProcess[str]:
    """`ppl-assets run` as a user types it; `clock` moves the time of day that it sees."""
    arguments = ["run", "--study", settings.study, "--state", str(settings.state)]
    prefix, environment = [], dict(os.environ)
    if clock:
        home = write_home(settings.state.parent, {"compute_logs": _NO_COPY})
        prefix = ["faketime", "-f", clock]
        environment |= {"DONT_FAKE_MONOTONIC": "1", "DAGSTER_HOME": str(home)}
    return subprocess.run(
        [*prefix, sys.executable, "-m", "ppl_assets", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )


def test_a_disk_that_fills_up_is_told_and_the_next_run_completes_what_was_begun(finished, small_disk, tmp_path):
    settings = Settings(state=small_disk / "state", study=str(write_import_study(tmp_path)))
    full = command(settings)
    assert full.returncode in (1, 2)
    assert "Traceback" not in full.stderr
    # By a write of ours, or by SQLite in one of two ways.
    said = ("No space left on device", "database or disk is full", "disk I/O error")
    assert any(sentence in full.stderr for sentence in said), full.stderr
    assert_nothing_is_half_written(settings)
    before = finished_work(settings)
    remount(small_disk, "size=300m")
    again = command(settings)
    assert again.returncode == 0, again.stderr
    assert_nothing_was_lost(before, finished_work(settings))
    assert_same_tables(tables_of(settings), tables_of(finished))
    assert not list(settings.state.rglob(".*.tmp"))


def test_a_state_folder_that_became_read_only_is_told_and_stays_as_it_was(finished, small_disk, tmp_path):
    remount(small_disk, "size=300m")
    shutil.copytree(finished.state, small_disk / "state")
    settings = Settings(state=small_disk / "state", study=str(write_import_study(tmp_path)))
    Workspace(settings).lake.path("domain_logliks", "model-04").unlink()
    remount(small_disk, "ro")
    refused = command(settings)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "cannot be written (Read-only file system); expected a writable folder" in refused.stderr
    remount(small_disk, "rw")
    again = command(settings)
    assert again.returncode == 0, again.stderr
    assert_same_tables(tables_of(settings), tables_of(finished))


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _alter_a_value(path: Path) -> None:
    """One bit amid the column data, which every Parquet reader takes as it is."""
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)


def _replace_by_another(path: Path) -> None:
    """Whole, readable, with the right footer, but other rows: what only the checksum tells."""
    content = pl.read_parquet(path)
    metadata = pl.read_parquet_metadata(path)
    content.with_columns(bpb=pl.col("bpb") + 1).write_parquet(
        path, metadata={"ppl_assets": metadata["ppl_assets"]}, compression="zstd"
    )


@pytest.mark.parametrize("harm", [_cut_off, _empty, _alter_a_value, _replace_by_another])
def test_a_damaged_part_is_noticed_and_made_again_and_no_other_is_touched(settings, harm):
    workspace = Workspace(settings)
    before = finished_work(settings)
    harm(workspace.lake.path("domain_logliks", "model-04"))
    behind = {(each.asset, each.partition) for each in partition_states(workspace) if each.state != "current"}
    assert ("domain_logliks", "model-04") in behind
    # A part whose footer is gone is one model less in what it enters.
    assert {partition for _, partition in behind} <= {"model-04", None}
    assert [outcome.task.imported for outcome in run(settings)] == [("model-04",)]
    after = finished_work(settings)
    assert_nothing_was_lost({key: value for key, value in before.items() if key[1] != "model-04"}, after)
    assert run(settings) == []


def test_no_altered_byte_of_a_part_goes_unnoticed(settings):
    lake = Workspace(settings).lake
    path = lake.path("benchmark_scores", "model-01")
    content = path.read_bytes()
    for position in range(len(content)):
        altered = bytearray(content)
        altered[position] ^= 1
        path.write_bytes(altered)
        assert not lake.verify("benchmark_scores", "model-01"), position
    path.write_bytes(content)
    assert lake.verify("benchmark_scores", "model-01")


def test_a_reader_that_holds_the_warehouse_open_keeps_what_it_opened_and_holds_up_nobody(settings):
    with duckdb.connect(str(settings.warehouse_file), read_only=True) as reader:
        before = reader.sql("SELECT * FROM benchmark_scores ORDER BY ALL").fetchall()
        _, scores = imported_tables()
        scores.with_columns(pl.col("value") * 0.9).write_csv(settings.state.parent / "scores.csv")
        assert "warehouse_file" in ran_without_error(settings)
        assert reader.sql("SELECT * FROM benchmark_scores ORDER BY ALL").fetchall() == before
    # Later, because in one process DuckDB opens a path once.
    with duckdb.connect(str(settings.warehouse_file), read_only=True) as second:
        assert second.sql("SELECT * FROM benchmark_scores ORDER BY ALL").fetchall() != before


@pytest.mark.parametrize("clock", ["-3y", "+3y"], ids=["back", "forward"])
def test_a_clock_that_jumps_makes_nothing_stale_and_hides_no_change(settings, clock):
    """The state was made today; the next runs live years before or after, a last one today again."""
    if shutil.which("faketime") is None:
        pytest.skip("no faketime is installed")
    nothing = command(settings, clock=clock)
    assert (nothing.returncode, "Everything is current." in nothing.stdout) == (0, True), nothing.stderr
    _, scores = imported_tables()
    scores.with_columns(pl.col("value") * 0.9).write_csv(settings.state.parent / "scores.csv")
    changed = command(settings, clock=clock)
    assert changed.returncode == 0, changed.stderr
    assert "benchmark_scores (12 imported models): done" in changed.stdout
    assert run(settings) == []
    prepare(settings)
    with open_instance() as instance:
        assert not any(run.status.value == "FAILURE" for run in instance.get_runs())


def test_two_runs_of_everything_at_once_end_in_the_same_tables(finished, tmp_path):
    settings = settings_of(write_import_study(tmp_path))
    results: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: results.append(command(settings))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(each.returncode, each.stderr) for each in results] == [(0, "")] * 2
    assert_same_tables(tables_of(settings), tables_of(finished))
    assert_nothing_is_half_written(settings)
    assert run(settings) == []
