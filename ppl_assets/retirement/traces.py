"""What gives a retired domain away, and how often that stands in some bytes, a table or a file.

Three kinds of traces: its name (in the spellings of JSON, HTML and URLs as well, as a word of its own: ``rich/code``
is not in ``rich/code2``), the ids of its pages, and its text, found by any 64 consecutive bytes that no page of
another domain has as well. A name that is a plain word ("poetry") is looked for in columns of domains alone: elsewhere
it may be a target, a run or a word.

Pages of other domains may name it: in columns of text, in tasks, tokenizers and page filters its text is looked for,
not its name.
"""

import html
import io
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl

from ppl_assets.benchmarks.overlap import RUN_BYTES, run_hashes
from ppl_assets.corpus import text_digest
from ppl_assets.warehouse import published_tables, replace_file

# Columns, and folders of the state, that hold text of pages.
TEXT_COLUMNS = ("text", "ngram")
TEXT_FOLDERS = ("tasks", "models", "filters", "selection", "pilot")
_BLOCK_BYTES = 1 << 23
_SEPARATOR = b"\0"
_DIGEST = "V16"  # bytes as `text_digest` gives them
_PLAIN_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traces:
    """What to look for: names of domains, ids of their pages, digests and hashed 64-byte runs of their texts."""

    names: tuple[str, ...]
    page_ids: frozenset[str] = frozenset()
    digests: frozenset[bytes] = frozenset()
    runs: np.ndarray

    @property
    def distinct_names(self) -> tuple[str, ...]:
        """Names that are more than a plain word."""
        return tuple(name for name in self.names if not _PLAIN_WORD.fullmatch(name))

    def without(self, texts: Iterable[str]) -> "Traces":
        """The same, but for text that stands in other domains' `texts` as well."""
        shared, digests = np.zeros(len(self.runs), dtype=bool), set(self.digests)
        for text in texts:
            shared[self._places(run_hashes(text.encode()))] = True
            digests.discard(text_digest(text))
        return replace(self, runs=self.runs[~shared], digests=frozenset(digests))

    def in_table(self, frame: pl.DataFrame) -> int:
        """Traces in a table's cells."""
        found = 0
        for name, column in zip(frame.columns, frame.iter_columns(), strict=True):
            if column.dtype == pl.Binary:
                found += sum(value in self.digests for value in column.drop_nulls())
            elif column.dtype == pl.String:
                cells = column.drop_nulls()
                page_ids = cells.str.replace(r"#\d+$", "")  # of a chunk: the id of its page
                found += int(page_ids.is_in(list(self.page_ids)).sum())
                found += self.in_values(cells, named=name not in TEXT_COLUMNS)
                found += int(cells.is_in(list(self.names)).sum()) if name == "domain" else 0
        return found

    def in_values(self, values: Iterable[str], *, named: bool) -> int:
        """Traces in texts that belong to each other no more than cells of a column do."""
        data = _SEPARATOR.join(value.encode("utf-8", "surrogatepass") for value in values)
        return self.in_bytes(data, named=named)

    def in_bytes(self, data: bytes, *, named: bool) -> int:
        """Traces in bytes of any kind; with `named`, names as well as text."""
        return (self._names_in(data) if named else 0) + self._runs_in(data)

    def _names_in(self, data: bytes) -> int:
        spellings = {spelling for name in self.distinct_names for spelling in _spellings(name)}
        standing = (
            rb"(?<![\w.-])" + re.escape(spelling) + rb"(?![\w-]|\.\w)" for spelling in spellings if spelling in data
        )
        return sum(len(re.findall(pattern, data)) for pattern in standing)

    def _runs_in(self, data: bytes) -> int:
        found, view = 0, memoryview(data)
        for start in range(0, max(1, len(data) - RUN_BYTES + 1), _BLOCK_BYTES):
            runs = run_hashes(view[start : start + _BLOCK_BYTES + RUN_BYTES - 1])
            found += len(self._places(runs))
        return found

    def _places(self, runs: np.ndarray) -> np.ndarray:
        """Where `runs` stand among those looked for; of runs that are not looked for, nothing."""
        if not len(self.runs):
            return np.empty(0, np.int64)
        places = np.minimum(np.searchsorted(self.runs, runs), len(self.runs) - 1)
        return places[self.runs[places] == runs]


def traces_of(names: Iterable[str], page_ids: Iterable[str], texts: Iterable[str]) -> Traces:
    """The traces that domains of these names, with these pages and texts, leave."""
    texts = list(texts)
    hashed = [run_hashes(text.encode()) for text in texts]
    return Traces(
        names=tuple(sorted(names)),
        page_ids=frozenset(page_ids),
        digests=frozenset(map(text_digest, texts)),
        runs=np.unique(np.concatenate([np.empty(0, np.uint64), *hashed])),
    )


def kept_traces(path: Path, found: Traces) -> Traces:
    """The traces found now and those that `path` keeps from before; both are kept there from now on.

    What they are found in is deleted before the search, and the search may have to be repeated.
    """
    if path.exists():
        with np.load(path, allow_pickle=False) as before:
            found = replace(
                found,
                page_ids=found.page_ids | set(before["page_ids"].tolist()),
                digests=found.digests | {digest.tobytes() for digest in before["digests"]},
                runs=np.union1d(found.runs, before["runs"]),
            )
    file = io.BytesIO()
    np.savez(
        file,
        page_ids=np.array(sorted(found.page_ids), dtype=np.str_),
        digests=np.frombuffer(b"".join(sorted(found.digests)), _DIGEST),
        runs=found.runs,
    )
    replace_file(path, file.getbuffer())
    return found


def in_file(traces: Traces, path: Path, *, named: bool = True) -> int:
    """Traces in a file: in its bytes as they lie on the disk, and in what it holds once it is decoded.

    Parquet, DuckDB and SQLite are read as tables, JSON as values, HTML without its escapes. With `named`, names count
    as well as text.
    """
    data = path.read_bytes()
    if path.suffix == ".parquet":
        return in_parquet(traces, data)
    found = traces.in_bytes(data, named=named)
    match path.suffix:
        case ".duckdb":
            return found + sum(traces.in_table(table) for table in published_tables(path).values())
        case ".db":
            return found + traces.in_values(_strings(_sqlite_cells(path)), named=named)
        case ".json" | ".jsonl":
            lines = [data] if path.suffix == ".json" else data.splitlines()
            return found + traces.in_values(_strings([_decoded(line) for line in lines]), named=named)
        case ".html":
            text = html.unescape(data.decode("utf-8", "replace"))
            return found + traces.in_bytes(text.encode("utf-8", "surrogatepass"), named=named)
    return found


def in_parquet(traces: Traces, data: bytes) -> int:
    """Traces in the bytes of a Parquet file, and in the table that they are."""
    table = pl.read_parquet(data, hive_partitioning=False)
    # The footer holds the least and greatest value of each column.
    return traces.in_table(table) + traces.in_bytes(data, named=not set(TEXT_COLUMNS) & set(table.columns))


def _spellings(name: str) -> set[bytes]:
    """A name as it is, and as JSON, HTML and URLs write it."""
    ways = (name, json.dumps(name)[1:-1], html.escape(name), quote(name), quote(name, safe=""))
    return {way.encode("utf-8", "surrogatepass") for way in ways}


def _sqlite_cells(path: Path) -> Iterator[Any]:
    """Every value of every table of an SQLite file; JSON in a cell is decoded."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                yield from (_decoded(cell) for cell in row if isinstance(cell, str | bytes))


def _decoded(value: str | bytes) -> Any:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    try:
        return json.loads(text) if text[:1] in ("{", "[", '"') else text
    except ValueError:
        return text


def _strings(value: Any) -> Iterator[str]:
    """Every string in a structure as JSON has it, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield str(key)
            yield from _strings(below)
    elif isinstance(value, Iterable):
        for below in value:
            yield from _strings(below)
