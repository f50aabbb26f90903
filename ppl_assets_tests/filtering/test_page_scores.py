"""Scores of pages: the same in one process and in several, after a kill at any shard, and after an edit of one file."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from ppl_assets.filtering import page_scores
from ppl_assets.warehouse import Lake
from ppl_assets_tests.filtering.killed_scoring import SHARD_PAGES
from ppl_assets_tests.filtering.selections import FILES, make_world, write_source, write_study

ARMS = ("uniform", "dsir", "rules")


def command(folder: Path, processes: int) -> list[str]:
    return [sys.executable, "-m", "ppl_assets_tests.filtering.killed_scoring", str(folder), str(processes)]


def bytes_of(folder: Path) -> dict[str, str]:
    """Hash of every file of the scores."""
    files = [path for table in ("page_scores", "page_shards") for path in (folder / "lake" / table).rglob("*.parquet")]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    write_source(folder)
    subprocess.run(command(folder, 1), check=True)
    return folder


def kill_at(folder: Path, shards: int) -> None:
    """Score in two processes that are killed, with the one that started them, when there are so many shards."""
    killed = subprocess.run([*command(folder, 2), str(shards)], start_new_session=True, stderr=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL


def test_killed_half_way_and_resumed_in_two_processes_it_leaves_the_same_files(undisturbed, tmp_path):
    write_source(tmp_path)
    expected = bytes_of(undisturbed)
    n_shards = sum("page_scores" in name for name in expected)
    assert n_shards > 4 * FILES
    kill_at(tmp_path, n_shards // 2)
    half = bytes_of(tmp_path)
    # One more where both processes had one to put in place.
    assert sum("page_scores" in name for name in half) - n_shards // 2 in (0, 1)
    assert half.items() <= expected.items()
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in half}
    subprocess.run(command(tmp_path, 2), check=True)
    assert bytes_of(tmp_path) == expected
    written_again = [name for name in half if (tmp_path / name).stat().st_mtime_ns != before[name]]
    assert written_again == []


def test_an_edited_file_alone_is_scored_again_and_a_deleted_one_leaves_nothing(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(page_scores, "SHARD_PAGES", SHARD_PAGES)
    write_source(tmp_path)
    world = make_world(tmp_path, write_study(tmp_path, arms=ARMS))
    how = world.scoring()
    first = world.score(how)
    before = bytes_of(tmp_path)
    assert world.score(how) == first
    part = tmp_path / "part-2.jsonl"
    lines = part.read_text().splitlines(keepends=True)
    part.write_text("".join(lines[:-1]))
    world.score(how)
    changed = {name for name, digest in bytes_of(tmp_path).items() if before.get(name) != digest}
    assert changed
    assert all(page_scores.part_key("part-2.jsonl") in name for name in changed)
    part.unlink()
    world.score(how)
    lake = Lake(tmp_path / "lake")
    assert len(lake.partitions("page_shards")) == FILES - 1
    assert not any(shard.startswith(page_scores.part_key("part-2.jsonl")) for shard in lake.partitions("page_scores"))


def test_rows_are_those_of_the_pages_and_scores_are_of_pages_that_may_be_selected(undisturbed):
    lake = Lake(undisturbed / "lake")
    rows = lake.read_partitions("page_scores", lake.partitions("page_scores"))
    assert rows["page_id"].n_unique() == rows.height
    assert set(rows.filter(pl.col("scores").is_null())["split"]) == {"scoring", "benchmark"}
    assert set(rows.filter(pl.col("scores").is_not_null())["split"]) == {"training"}
    # Of 480 pages a tenth is under a closed licence and a tenth too short.
    assert rows.height == 480 - 48 - 48
    shards = pl.concat([lake.read("page_shards", key) for key in lake.partitions("page_shards")])
    assert shards["pages"].sum() == 480
