"""The lake: whole parts or none, declared columns, footers that can be trusted."""

import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl_assets.errors import InputError
from ppl_assets.processes import alone, is_running, process_mark, temporary_path
from ppl_assets.warehouse import Lake, data_version, remove_abandoned, replace_file

SCORES = pl.DataFrame(
    {
        "slug": ["a", "a"],
        "task": ["piqa", "arc"],
        "metric": ["acc", "acc"],
        "value": [0.5, 0.25],
        "stderr": [None, 0.01],
        "samples": [None, 10],
    },
    schema_overrides={"stderr": pl.Float64, "samples": pl.Int64},
)


def test_a_part_reads_back_sorted_by_its_keys_with_its_footer(tmp_path):
    lake = Lake(tmp_path)
    footer = lake.write("benchmark_scores", SCORES, fingerprint="f", partition="a", cost={"seconds": 1.5})
    assert lake.read("benchmark_scores", "a")["task"].to_list() == ["arc", "piqa"]
    assert lake.footer("benchmark_scores", "a") == footer
    assert (footer.fingerprint, footer.cost) == ("f", {"seconds": 1.5})
    assert lake.partitions("benchmark_scores") == ["a"]
    assert lake.verify("benchmark_scores", "a")
    assert lake.path("benchmark_scores", "a") == tmp_path / "benchmark_scores" / "model=a" / "part.parquet"


def test_the_data_version_is_that_of_the_rows_whatever_their_order_and_cost(tmp_path):
    lake = Lake(tmp_path)
    first = lake.write("benchmark_scores", SCORES, fingerprint="f", partition="a", cost={"seconds": 1})
    second = lake.write("benchmark_scores", SCORES.reverse(), fingerprint="g", partition="a", cost={"seconds": 2})
    changed = SCORES.with_columns(pl.col("value") + 2**-52)
    third = lake.write("benchmark_scores", changed, fingerprint="g", partition="a")
    assert first.data_version == second.data_version != third.data_version


@given(
    st.lists(st.tuples(st.text(max_size=5), st.none() | st.floats(allow_nan=False)), max_size=20),
    st.integers(min_value=0, max_value=20),
)
def test_the_data_version_does_not_depend_on_how_a_frame_was_put_together(rows, cut):
    schema = {"name": pl.String, "value": pl.Float64}
    whole = pl.DataFrame(rows, schema=schema, orient="row")
    pieces = pl.concat([whole.head(cut), whole.slice(cut)], rechunk=False)
    assert data_version(pieces) == data_version(whole)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (SCORES.drop("metric"), "column 'metric' is missing"),
        (SCORES.with_columns(value=pl.lit(None, pl.Float64)), "column 'value' is null in 2 rows"),
        (pl.concat([SCORES, SCORES]), "'task': '(arc|piqa)'.* stands more than once"),
        (SCORES.with_columns(slug=pl.lit("b")), "partition 'a' holds rows of 'b'"),
    ],
)
def test_rows_that_break_the_declaration_are_refused_and_the_old_part_stays(tmp_path, frame, message):
    lake = Lake(tmp_path)
    lake.write("benchmark_scores", SCORES, fingerprint="f", partition="a")
    with pytest.raises(InputError, match=message):
        lake.write("benchmark_scores", frame, fingerprint="g", partition="a")
    assert lake.read("benchmark_scores", "a").height == 2


def test_a_truncated_or_altered_part_is_noticed(tmp_path):
    lake = Lake(tmp_path)
    lake.write("benchmark_scores", SCORES, fingerprint="f", partition="a")
    path = lake.path("benchmark_scores", "a")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert lake.footer("benchmark_scores", "a") is None
    assert not lake.verify("benchmark_scores", "a")
    with pytest.raises(InputError, match="damaged, its bytes are not those that were written"):
        lake.read("benchmark_scores", "a")


def test_a_missing_part_is_told_with_what_makes_it(tmp_path):
    with pytest.raises(InputError, match="missing; materialize domains first"):
        Lake(tmp_path).read("domains")


def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path):
    """On a real file system of 64 KiB where one can be mounted: the write fails half-way, as it would in use."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        replace_file(small / "a", b"old")
        with pytest.raises(InputError, match="No space left on device"):
            replace_file(small / "a", os.urandom(1 << 20))
        assert (small / "a").read_bytes() == b"old"
        assert [path.name for path in small.iterdir()] == ["a"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_folder_that_cannot_be_written_is_told_by_path(tmp_path):
    """A file where the folder should be: unlike permissions, this binds the superuser as well."""
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(InputError, match=r"state.*cannot be written.*expected a writable folder"):
        replace_file(tmp_path / "state" / "a", b"new")


def _rewrite_for_ever(path: str) -> None:
    size = 0
    while True:
        size = size % 50 + 1
        replace_file(Path(path), b"x" * (size * 100_000))


def test_a_writer_killed_at_any_moment_leaves_a_whole_file_and_its_leftovers_are_removed(tmp_path):
    path = tmp_path / "part"
    context = multiprocessing.get_context("spawn")
    for _ in range(5):
        writer = context.Process(target=_rewrite_for_ever, args=(str(path),))
        writer.start()
        before = path.stat().st_ino if path.exists() else 0
        while not path.exists() or path.stat().st_ino == before:
            pass
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert path.stat().st_size % 100_000 == 0
    remove_abandoned(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["part"]


def test_the_temporary_file_of_a_live_writer_stays(tmp_path):
    alive = temporary_path(tmp_path / "part")
    alive.touch()
    code = (
        "from ppl_assets.processes import temporary_path; from pathlib import Path; print(temporary_path(Path('part')))"
    )
    dead = tmp_path / subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    dead.touch()
    assert remove_abandoned(tmp_path) == [dead]
    assert alive.exists()


def test_what_another_container_writes_stays_until_nobody_touched_it_for_a_week(tmp_path, monkeypatch):
    """The number of its process means another one here, or none."""
    code = (
        "from ppl_assets.processes import temporary_path; from pathlib import Path; print(temporary_path(Path('part')))"
    )
    if not shutil.which("unshare"):
        pytest.skip("unshare is not on this machine")
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", sys.executable, "-c", code]
    foreign = subprocess.run(command, capture_output=True, text=True)
    if foreign.returncode:
        pytest.skip(f"namespaces of processes are not on this machine: {foreign.stderr.strip()}")
    part = tmp_path / foreign.stdout.strip()
    part.touch()
    assert remove_abandoned(tmp_path) == []
    week = 7 * 24 * 3600
    os.utime(part, (time.time() - week - 60,) * 2)
    assert remove_abandoned(tmp_path) == [part]


@pytest.mark.parametrize("name", [".x.tmp", ".syncthing.report.html.tmp", ".a-b-c.tmp", ".part-1@2-x.tmp"])
def test_what_others_name_as_temporary_is_theirs(tmp_path, name):
    (tmp_path / name).touch()
    assert remove_abandoned(tmp_path) == []
    assert (tmp_path / name).exists()


def test_a_process_that_ended_but_was_not_waited_for_counts_as_ended(tmp_path):
    """A killed worker stays in the process table until somebody asks for its exit code."""
    code = "from ppl_assets.processes import process_mark; print(process_mark(), flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    mark = process.stdout.readline().strip()
    assert is_running(mark)
    assert not is_running(mark.replace("@", "@1"))
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_running(mark)
    process.communicate()


def test_a_process_is_known_again_after_the_clock_was_set(monkeypatch):
    """The date of a process's beginning is its age, subtracted from a clock that may have been set since."""
    mark = process_mark()
    began = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: began(process) - 3600)
    assert process_mark() == mark
    assert is_running(mark)


def test_a_lock_is_held_by_one_process_at_a_time_and_freed_when_it_is_killed(tmp_path):
    code = (
        "import sys, signal; from pathlib import Path; from ppl_assets.processes import alone\n"
        "with alone(Path(sys.argv[1])):\n    print('held', flush=True); signal.pause()\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with (tmp_path / "lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder.kill()
    with alone(tmp_path / "lock"):
        holder.communicate()
