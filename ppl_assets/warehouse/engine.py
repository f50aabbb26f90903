"""DuckDB over the lake: an in-memory SQL engine whose views are the tables, and the one file published for people.

The only module that opens DuckDB. No file is ever open for writing while others need it: the published file is built
under a temporary name and renamed, so a reader keeps the snapshot that it opened.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.processes import temporary_path
from ppl_assets.schema import TABLES, Table
from ppl_assets.warehouse.lake import Lake

if TYPE_CHECKING:
    import duckdb

_SQL_TYPES = {
    pl.String(): "VARCHAR",
    pl.Int64(): "BIGINT",
    pl.Float64(): "DOUBLE",
    pl.Boolean(): "BOOLEAN",
    pl.Binary(): "BLOB",
    pl.List(pl.Float64()): "DOUBLE[]",
}


def run_sql(
    lake: Lake, name: str, *, partitions: Mapping[str, Iterable[str]], parameters: dict[str, Any]
) -> pl.DataFrame:
    """Run ``sql/<name>.sql`` over the lake and return its rows.

    `partitions` names, for each partitioned table that the statement reads, the partitions it may see. `parameters` are
    bound by name (``$slug``); nothing is ever spliced into the text.
    """
    import duckdb

    statement = resources.files("ppl_assets.sql").joinpath(f"{name}.sql").read_text(encoding="utf-8")
    with duckdb.connect(":memory:") as connection:
        for table in (table for table in TABLES.values() if table.name in statement):
            _create_view(connection, lake, table, list(partitions.get(table.name, ())))
        return connection.sql(statement, params=parameters).pl()


def sql_to_files(
    lake: Lake,
    name: str,
    folder: Path,
    *,
    by: str,
    partitions: Mapping[str, Iterable[str]],
    memory_bytes: Sequence[int],
) -> None:
    """Run ``sql/<name>.sql`` over the lake and write its rows to `folder`/<by>=<value>, other files in it are deleted.

    For more rows than memory holds: what exceeds the first of `memory_bytes` goes to a folder beside `folder`
    meanwhile, and a statement that needs more all the same is run anew with the next.
    """
    import duckdb

    statement = resources.files("ppl_assets.sql").joinpath(f"{name}.sql").read_text(encoding="utf-8")
    spilled = temporary_path(folder)
    for limit in memory_bytes:
        # One thread: each takes blocks of its own, and the limit is to suffice whatever the machine.
        config: dict[str, Any] = {
            "memory_limit": f"{limit // 2**20}MiB",
            "temp_directory": str(spilled),
            "threads": 1,
        }
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            with duckdb.connect(":memory:", config=config) as connection:
                for table in (table for table in TABLES.values() if table.name in statement):
                    _create_view(connection, lake, table, list(partitions.get(table.name, ())))
                connection.sql(statement).write_parquet(str(folder), partition_by=[by])
            return
        except duckdb.OutOfMemoryException:
            if limit == memory_bytes[-1]:
                raise
        finally:
            shutil.rmtree(spilled, ignore_errors=True)


def publish(lake: Lake, path: Path, *, partitions: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Write one DuckDB file with a real table for every published table of the lake; returns their row counts.

    Raises:
        InputError: the file cannot be written; an older file stays as it was.
    """
    import duckdb

    temporary = temporary_path(path)
    try:
        with duckdb.connect(str(temporary)) as connection:
            counts = {
                table.name: _create_table(connection, lake, table, list(partitions.get(table.name, ())))
                for table in TABLES.values()
                if table.published
            }
        temporary.replace(path)
    except duckdb.IOException as error:
        raise InputError(f"{path}: cannot be written ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return counts


def published_tables(path: Path) -> dict[str, pl.DataFrame]:
    """Every table of a published file, as it can be read back from it."""
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        names = [str(name) for (name,) in connection.sql("SELECT table_name FROM duckdb_tables()").fetchall()]
        return {name: connection.sql(f'SELECT * FROM "{name}"').pl() for name in sorted(names)}


def _rows(
    connection: "duckdb.DuckDBPyConnection", lake: Lake, table: Table, partitions: list[str]
) -> "duckdb.DuckDBPyRelation | None":
    """The rows of a table, of the given partitions where it has any; None where there is no part."""
    wanted = [None] if table.partition is None else partitions
    parts = [part for part in wanted if lake.exists(table.name, part)]
    if not parts:
        return None
    if isinstance(lake.root, Path):
        # Without hive partitioning: the key is a column of the file already.
        return connection.read_parquet([str(lake.path(table.name, part)) for part in parts], hive_partitioning=False)
    # Through Arrow: DuckDB's own reader of buckets is an extension that it would download.
    return connection.from_arrow(lake.read_partitions(table.name, parts).to_arrow())


def _create_view(connection: "duckdb.DuckDBPyConnection", lake: Lake, table: Table, partitions: list[str]) -> None:
    rows = _rows(connection, lake, table, partitions)
    if rows is None:
        connection.sql(_empty_table(table))
    else:
        rows.create_view(table.name)


def _create_table(connection: "duckdb.DuckDBPyConnection", lake: Lake, table: Table, partitions: list[str]) -> int:
    connection.sql(_empty_table(table))
    rows = _rows(connection, lake, table, partitions)
    if rows is not None:
        rows.insert_into(table.name)
    for column in table.columns:
        connection.sql(f'COMMENT ON COLUMN "{table.name}"."{column.name}" IS {_literal(column.meaning)}')
    connection.sql(f'COMMENT ON TABLE "{table.name}" IS {_literal("One row per " + table.grain)}')
    return int(connection.sql(f'SELECT count(*) FROM "{table.name}"').fetchall()[0][0])


def _empty_table(table: Table) -> str:
    """DDL of a table; names come from ``schema.py`` alone, never from a study."""
    columns = ", ".join(
        f'"{column.name}" {_SQL_TYPES[column.dtype]}{"" if column.nullable else " NOT NULL"}'
        for column in table.columns
    )
    return f'CREATE TABLE "{table.name}" ({columns})'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
