"""The lake in a bucket: what it is in a folder, against an S3 server on loopback, uploads that break off included."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import duckdb
import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.settings import Settings
from ppl_assets.warehouse import Lake, publish, run_sql
from ppl_assets_tests.warehouse.buckets import Line, access, client, environment, s3_server
from ppl_assets_tests.warehouse.test_lake import SCORES


@pytest.fixture(scope="module")
def address():
    """An S3 server with one bucket."""
    with s3_server() as address:
        client(address).create_bucket(Bucket="tables")
        yield address


@pytest.fixture
def url(address, monkeypatch) -> str:
    """A prefix of one's own in the bucket."""
    for name, value in access(address).items():
        monkeypatch.setenv(name, value)
    return f"s3://tables/{uuid.uuid4().hex}"


@pytest.fixture(params=["folder", "bucket"])
def lake(request, tmp_path) -> Lake:
    """A lake of either kind."""
    return Lake(tmp_path / "lake" if request.param == "folder" else request.getfixturevalue("url"))


def scores_of(slug: str) -> pl.DataFrame:
    return SCORES.with_columns(slug=pl.lit(slug))


def test_a_part_reads_back_with_its_footer_wherever_it_lies(lake):
    footer = lake.write("benchmark_scores", SCORES, fingerprint="f", partition="a", cost={"seconds": 1.5})
    assert lake.read("benchmark_scores", "a")["task"].to_list() == ["arc", "piqa"]
    assert lake.footer("benchmark_scores", "a") == footer
    assert lake.verify("benchmark_scores", "a")
    assert str(lake.path("benchmark_scores", "a")) == f"{lake.root}/benchmark_scores/model=a/part.parquet"


def test_a_footer_longer_than_what_is_fetched_at_first_is_read_whole(lake):
    cost = {"note": os.urandom(60_000).hex()}
    lake.write("benchmark_scores", SCORES, fingerprint="f", partition="a", cost=cost)
    assert lake.footer("benchmark_scores", "a").cost == cost


def test_partitions_are_those_that_have_a_part_and_leave_with_it(lake):
    for slug in ("b", "a", "a-2"):
        lake.write("benchmark_scores", scores_of(slug), fingerprint="f", partition=slug)
    assert lake.partitions("benchmark_scores") == ["a", "a-2", "b"]
    assert lake.read_partitions("benchmark_scores", ["a", "b"])["slug"].to_list() == ["a", "a", "b", "b"]
    lake.remove("benchmark_scores", "a")
    lake.remove("benchmark_scores", "a")
    assert lake.partitions("benchmark_scores") == ["a-2", "b"]
    assert not lake.exists("benchmark_scores", "a")
    assert lake.footer("benchmark_scores", "a") is None
    assert lake.partitions("domain_logliks") == []


def test_a_stamp_tells_a_part_from_another_of_the_same_size_and_second(lake):
    stamps = []
    for value in (0.5, 0.25, 0.5):
        rows = SCORES.with_columns(value=pl.lit(value))
        lake.write("benchmark_scores", rows, fingerprint="f", partition="a")
        stamps.append(lake.stamp("benchmark_scores", "a"))
    assert stamps[0] != stamps[1] != stamps[2]
    assert lake.stamp("benchmark_scores", "a") == stamps[2]


def test_a_missing_and_a_broken_part_are_told_by_address(lake, address):
    with pytest.raises(InputError, match=r"domains/part\.parquet: missing; materialize domains first"):
        lake.read("domains")
    lake.write("benchmark_scores", SCORES, fingerprint="f", partition="a")
    _truncate(lake, address)
    assert lake.footer("benchmark_scores", "a") is None
    with pytest.raises(InputError, match=r"model=a/part\.parquet: damaged, its bytes are not those that were written"):
        lake.read("benchmark_scores", "a")


def _truncate(lake: Lake, address: str) -> None:
    half = lake.content("benchmark_scores", "a")[:500]
    path = lake.path("benchmark_scores", "a")
    if isinstance(path, Path):
        path.write_bytes(half)
    else:
        client(address).put_object(Bucket="tables", Key=path.removeprefix("s3://tables/"), Body=half)


def test_sql_and_the_published_file_see_the_same_rows(lake, tmp_path):
    domains = ["code", "prose"]
    chunks = pl.DataFrame(
        {
            "chunk_id": [f"{domain}-0" for domain in domains],
            "page_id": domains,
            "domain": domains,
            "position": [0, 0],
            "text": ["one", "two"],
            "tokens": [1, 1],
            "bytes": [3, 3],
        }
    )
    lake.write("chunks", chunks, fingerprint="f")
    lake.write("benchmark_scores", SCORES, fingerprint="f", partition="a")
    counts = publish(lake, tmp_path / "warehouse.duckdb", partitions={"benchmark_scores": ["a", "missing"]})
    assert counts["benchmark_scores"] == 2
    assert counts["domain_logliks"] == 0
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as connection:
        stored = connection.sql("FROM benchmark_scores ORDER BY task").pl()
    assert stored.equals(lake.read("benchmark_scores", "a"))
    assert run_sql(lake, "domain_logliks", partitions={}, parameters={"slug": "a"}).is_empty()


_WRITER = """
import sys
import polars as pl
from ppl_assets.warehouse import Lake
from ppl_assets_tests.warehouse.test_store import large_scores
Lake(sys.argv[1]).write("benchmark_scores", large_scores(), fingerprint="new", partition="a")
"""


def large_scores() -> pl.DataFrame:
    """Rows that take some megabytes, however they are compressed."""
    tasks = [os.urandom(16).hex() for _ in range(200_000)]
    return pl.DataFrame(
        {"slug": "a", "task": tasks, "metric": "acc", "value": 0.5, "stderr": None, "samples": 1},
        schema_overrides={"stderr": pl.Float64, "samples": pl.Int64},
    )


def test_a_writer_killed_in_the_middle_of_its_upload_leaves_the_part_that_was_there(url, address):
    """A million bytes have reached the server when the writer dies; nothing of them is ever seen or kept."""
    lake = Lake(url)
    old = lake.write("benchmark_scores", SCORES, fingerprint="old", partition="a")
    line = Line(address, bytes_until_held=1_000_000)
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, url], env=environment(line.address))
    try:
        assert line.held.wait(timeout=300)
        assert lake.footer("benchmark_scores", "a") == old
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        line.close()
    assert lake.footer("benchmark_scores", "a") == old
    assert lake.verify("benchmark_scores", "a")
    assert "Uploads" not in client(address).list_multipart_uploads(Bucket="tables")
    new = lake.write("benchmark_scores", large_scores(), fingerprint="new", partition="a")
    assert lake.footer("benchmark_scores", "a") == new


def test_a_bucket_that_does_not_take_the_part_is_told(url):
    with pytest.raises(InputError, match=r"s3://missing/x/benchmark_scores/.*cannot be written.*404"):
        Lake("s3://missing/x").write("benchmark_scores", SCORES, fingerprint="f", partition="a")


def test_an_address_of_no_known_kind_is_refused():
    with pytest.raises(InputError, match=r"ftp4://x.*expected a URL such as s3://bucket/prefix"):
        Lake("ftp4://x")


def test_without_the_extra_a_url_is_refused_with_its_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    with pytest.raises(InputError, match=r"pip install 'ppl-assets\[s3\]'"):
        Lake("s3://tables/x")


def test_a_lake_is_one_studys(lake):
    lake.claim("mine")
    lake.claim("mine")
    with pytest.raises(InputError, match="holds the tables of study 'mine', expected 'yours'"):
        lake.claim("yours")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", Path("/s/lake")), ("s3://tables/x", "s3://tables/x"), ("/shared/lake", Path("/shared/lake"))],
)
def test_the_variable_says_where_the_lake_is(value, expected, monkeypatch):
    monkeypatch.setenv("PPL_LAKE", value)
    assert Settings.from_environment(state=Path("/s")).lake == expected
