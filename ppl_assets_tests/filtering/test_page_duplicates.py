"""Pages that another page stands for: against a loop over all pages, in memory and beyond it."""

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl_assets.filtering.selection import _DUPLICATE_MEMORY
from ppl_assets.schema import TABLES
from ppl_assets.warehouse import Lake, sql_to_files

SPLITS = ("scoring", "benchmark", "training")


def frame(shard: str, pages: list[dict[str, object]]) -> pl.DataFrame:
    """Rows of ``page_scores`` with what decides; the rest says nothing."""
    rest = {"shard": shard, "domain_group": None, "language": None, "sketch": None, "tokens": 1, "scores": None}
    rows = [rest | page | {"position": position} for position, page in enumerate(pages)]
    return pl.DataFrame(rows, schema=TABLES["page_scores"].polars_schema)


def found(lake: Lake, shards: list[str], memory_bytes: tuple[int, ...]) -> set[tuple[str, int]]:
    """Shard and position of every row that the statement writes, each once."""
    folder = Path(lake.root).parent / "duplicates"
    partitions = {"page_scores": shards}
    sql_to_files(lake, "page_duplicates", folder, by="shard", partitions=partitions, memory_bytes=memory_bytes)
    rows = [
        (path.parent.name.removeprefix("shard="), position)
        for path in folder.glob("*/*.parquet")
        for position in pl.read_parquet(path)["position"]
    ]
    assert len(set(rows)) == len(rows)
    assert [path.name for path in folder.parent.iterdir() if path.suffix == ".tmp"] == []
    return set(rows)


def expected(rows: list[dict[str, object]]) -> set[tuple[object, object]]:
    """What the head of the statement says, in two loops."""
    of_id: dict[object, dict[str, object]] = {}
    for row in sorted(rows, key=lambda row: tuple(row[name] for name in ("digest", "domain", "shard", "position"))):
        of_id.setdefault(row["page_id"], row)
    of_text: dict[object, dict[str, object]] = {}
    ranks = ("order", "page_id", "shard", "position")
    for row in sorted(of_id.values(), key=lambda row: (SPLITS.index(row["split"]), *(row[name] for name in ranks))):
        of_text.setdefault(row["digest"], row)
    stays = {(row["shard"], row["position"]) for row in of_text.values()}
    return {(row["shard"], row["position"]) for row in rows} - stays


# Few values of each, so that pages agree in any of them, a seeded order or a text with a zero byte too.
PAGE = st.fixed_dictionaries(
    {
        "page_id": st.sampled_from(["a", "b", "ab", "é", "z" * 30]),
        "domain": st.sampled_from(["one.org", "two.org"]),
        "split": st.sampled_from(SPLITS),
        "order": st.integers(-1, 2),
        "digest": st.sampled_from([b"\0" * 16, b"\0" * 15 + b"\1", b"\xff" * 16, b"text of sixteen."]),
    }
)


@given(st.lists(st.lists(PAGE, max_size=12), max_size=3))
@settings(max_examples=50)
def test_the_pages_that_go_are_those_of_a_loop(shards):
    with tempfile.TemporaryDirectory() as place:
        lake = Lake(Path(place) / "lake")
        written = {f"shard-{number}": frame(f"shard-{number}", pages) for number, pages in enumerate(shards)}
        for name, rows in written.items():
            lake.write("page_scores", rows, partition=name, fingerprint="")
        rows = [row for each in written.values() for row in each.to_dicts()]
        assert found(lake, list(written), _DUPLICATE_MEMORY) == expected(rows)


def test_beyond_memory_the_same_pages_go_and_where_the_disk_does_not_help_there_is_more_memory(tmp_path):
    import duckdb

    rng, lake, rows = np.random.default_rng(0), Lake(tmp_path / "lake"), []
    for number in range(4):
        pages = [
            {
                "page_id": f"https://site.org/{rng.integers(200_000):0200d}",
                "domain": "site.org",
                "split": SPLITS[rng.integers(3)],
                "order": int(rng.integers(100)),
                "digest": int(rng.integers(60_000)).to_bytes(16, "little"),
            }
            for _ in range(30_000)
        ]
        written = frame(f"shard-{number}", pages)
        rows += written.to_dicts()
        lake.write("page_scores", written, partition=f"shard-{number}", fingerprint="")
    shards = lake.partitions("page_scores")
    wanted = expected(rows)
    assert found(lake, shards, (2**26,)) == wanted  # with no disk to go to it is not enough
    with pytest.raises(duckdb.OutOfMemoryException):
        found(lake, shards, (2**21,))
    assert found(lake, shards, (2**21, 2**27)) == wanted
