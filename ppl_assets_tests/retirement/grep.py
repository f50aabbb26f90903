"""Every word that a state folder holds, decoded by means of the test's own: what a suspicious reader would grep."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import lxml.html
import pyarrow.parquet


def contents(state: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file, as its bytes and decoded."""
    for path in sorted(path for path in state.rglob("*") if path.is_file()):
        name = path.relative_to(state).as_posix()
        # SQLite's own log beside a file is gone once the file has been read.
        if path.exists():
            yield name, path.read_bytes()
            yield f"{name}, decoded", _decoded(path).encode()


def _decoded(path: Path) -> str:
    match path.suffix:
        case ".parquet":
            table = pyarrow.parquet.ParquetFile(path).read()
            return "\0".join(str(value) for column in table.columns for value in column.to_pylist())
        case ".duckdb":
            with duckdb.connect(str(path), read_only=True) as connection:
                tables = [row[0] for row in connection.sql("SHOW TABLES").fetchall()]
                rows = [row for table in tables for row in connection.sql(f'FROM "{table}"').fetchall()]
            return "\0".join(str(value) for row in rows for value in row)
        case ".db":
            with closing(sqlite3.connect(path)) as connection:
                return "\n".join(connection.iterdump()).replace("\\n", "\n").replace('\\"', '"')
        case ".jsonl":
            lines = path.read_text().splitlines()
            return "\0".join(str(value) for line in lines for value in json.loads(line).values())
        case ".html":
            return str(lxml.html.parse(str(path)).getroot().text_content())
    return ""
