"""The Parquet lake: ``<root>/<table>[/<key>=<value>]/part.parquet``, the only store of tables.

A part is written to a temporary name in its own folder and put in place by ``os.replace``: a reader, a crash or a
second writer never sees half a file. Each part's footer says what it is: the fingerprint of what it was computed from,
the data version (a hash of its rows, equal for equal content) and what the computation cost.
"""

import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.processes import is_running, temporary_path
from ppl_assets.schema import TABLES, Table

_PART = "part.parquet"
_FOOTER_KEY = "ppl_assets"
# What a file system says when it is the user's to repair: full, over quota, read-only, not permitted, not a folder.
_USER_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a part says of itself.

    `fingerprint` hashes everything that the part was computed from, `data_version` its rows. `cost` holds the columns
    of ``cost_ledger`` that the step knows.
    """

    fingerprint: str
    data_version: str
    cost: dict[str, Any] = field(default_factory=dict)


class Lake:
    """The tables under one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, table: str, partition: str | None = None) -> Path:
        """Where a part lies; partitioned tables have one part per partition."""
        spec = TABLES[table]
        assert (spec.partition is None) == (partition is None), f"{table} is partitioned by {spec.partition}"
        folder = self.root / table
        return (folder if partition is None else folder / f"{_folder_key(spec)}={partition}") / _PART

    def partitions(self, table: str) -> list[str]:
        """Partitions of a table that have a part, sorted."""
        prefix = f"{_folder_key(TABLES[table])}="
        parts = (self.root / table).glob(f"{prefix}*/{_PART}")
        return sorted(part.parent.name.removeprefix(prefix) for part in parts)

    def exists(self, table: str, partition: str | None = None) -> bool:
        """Whether a part is there."""
        return self.path(table, partition).is_file()

    def write(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        fingerprint: str,
        partition: str | None = None,
        cost: dict[str, Any] | None = None,
    ) -> Footer:
        """Put a part in place, whole or not at all; rows are sorted by the table's keys.

        Raises:
            InputError: the rows break the table's declaration, or the disk is full or not writable.
        """
        path = self.path(table, partition)
        rows = _checked(frame, TABLES[table], partition)
        footer = Footer(fingerprint=fingerprint, data_version=data_version(rows), cost=cost or {})
        buffer = io.BytesIO()
        rows.write_parquet(buffer, compression="zstd", metadata={_FOOTER_KEY: json.dumps(asdict(footer))})
        replace_file(path, buffer.getbuffer())
        return footer

    def read(self, table: str, partition: str | None = None) -> pl.DataFrame:
        """All rows of a part.

        Raises:
            InputError: there is no such part, or it cannot be read.
        """
        path = self.path(table, partition)
        if not path.is_file():
            raise InputError(f"{path}: missing; materialize {table} first")
        try:
            return pl.read_parquet(path, hive_partitioning=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"{path}: not a readable Parquet file ({error}); delete it and run again") from error

    def read_partitions(self, table: str, partitions: Iterable[str]) -> pl.DataFrame:
        """The rows of several parts; an empty frame with the table's columns where there are none."""
        frames = [self.read(table, partition) for partition in partitions]
        return pl.concat(frames) if frames else TABLES[table].polars_schema.to_frame()

    def footer(self, table: str, partition: str | None = None) -> Footer | None:
        """What a part says of itself; None where it is missing, truncated or not ours."""
        path = self.path(table, partition)
        if not path.is_file():
            return None
        try:
            content = pl.read_parquet_metadata(path).get(_FOOTER_KEY)
        except (pl.exceptions.PolarsError, OSError):
            return None
        return Footer(**json.loads(content)) if content else None

    def verify(self, table: str, partition: str | None = None) -> bool:
        """Whether a part is readable and its rows are those that were written."""
        footer = self.footer(table, partition)
        if footer is None:
            return False
        try:
            return data_version(self.read(table, partition)) == footer.data_version
        except InputError:
            return False

    def remove(self, table: str, partition: str | None = None) -> None:
        """Delete a part; nothing happens where there is none."""
        path = self.path(table, partition)
        path.unlink(missing_ok=True)
        if partition is not None and path.parent.is_dir():
            shutil.rmtree(path.parent)


def data_version(frame: pl.DataFrame) -> str:
    """Hash of a frame's column names, types and rows in their order; equal for equal content."""
    buffer = io.BytesIO()
    # Parquet, not Arrow: what lies under a null in an Arrow buffer is arbitrary, Parquet leaves it out.
    frame.write_parquet(buffer, compression="uncompressed", statistics=False)
    return hashlib.sha256(buffer.getbuffer()).hexdigest()[:32]


def replace_file(path: Path, content: bytes | memoryview | str) -> None:
    """Write `content` to `path` atomically: to a temporary name in the same folder, synced, then renamed.

    Raises:
        InputError: the disk is full or the folder not writable; what stood at `path` is untouched.
    """
    temporary = temporary_path(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in _USER_ERRNOS:
            found = f"cannot be written ({error.strerror})"
            raise InputError(f"{path}: {found}; expected a writable folder with {len(data):,} bytes free") from error
        raise
    finally:
        if temporary.exists():
            temporary.unlink()


def replace_parquet(path: Path, rows: pl.DataFrame) -> None:
    """Write a plain Parquet file, whole or not at all."""
    buffer = io.BytesIO()
    rows.write_parquet(buffer)
    replace_file(path, buffer.getbuffer())


def remove_abandoned(root: Path) -> list[Path]:
    """Delete temporary files and folders whose writer is dead; returns what was deleted."""
    abandoned = [path for path in root.rglob(".*.tmp") if not is_running(path.name.rsplit("-", 2)[-2])]
    for path in abandoned:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return abandoned


def _folder_key(table: Table) -> str:
    return "model" if table.partition == "slug" else str(table.partition)


def _checked(frame: pl.DataFrame, table: Table, partition: str | None) -> pl.DataFrame:
    """`frame` with the declared columns in order, sorted by the keys; an error where it breaks the declaration."""
    missing = [name for name in table.by_name if name not in frame.columns]
    if missing:
        raise InputError(f"table {table.name}: column {missing[0]!r} is missing; found {frame.columns}")
    rows = frame.select(pl.col(column.name).cast(column.dtype) for column in table.columns)
    for column in table.columns:
        if not column.nullable and (nulls := rows[column.name].null_count()):
            raise InputError(f"table {table.name}: column {column.name!r} is null in {nulls} rows, expected none")
    repeated = rows.filter(pl.struct(table.keys).is_duplicated())
    if repeated.height:
        found = repeated.select(table.keys).row(0, named=True)
        raise InputError(f"table {table.name}: {found} stands more than once, expected once")
    if table.partition is not None and (strange := set(rows[table.partition]) - {partition}):
        raise InputError(f"table {table.name}: partition {partition!r} holds rows of {sorted(strange)[0]!r}")
    return rows.sort(table.keys)
