"""The Parquet lake: ``<root>/<table>[/<key>=<value>]/part.parquet``, the only store of tables.

The root is a folder, or a bucket behind a URL (see `store`). A part is put in place whole or not at all: a reader, a
crash or a second writer never sees half of one. Each part's footer says what it is: the fingerprint of what it was
computed from, the data version (a hash of its rows, equal for equal content), what the computation cost, and a checksum
by which damage is noticed.
"""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.names import is_slug
from ppl_assets.schema import TABLES, Table
from ppl_assets.warehouse import seal
from ppl_assets.warehouse.store import store_at

_PART = "part.parquet"
_FOOTER_KEY = "ppl_assets"
_FOOTER_BEGIN = b'{"fingerprint"'
# The name of the study whose lake it is, where that lies outside the study's state folder.
_OWNER = "study"


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a part says of itself.

    `fingerprint` hashes everything that the part was computed from, `data_version` its rows. `cost` holds the columns
    of ``cost_ledger`` that the step knows. `checksum` is the file's (see `warehouse.seal`).
    """

    fingerprint: str
    data_version: str
    cost: dict[str, Any] = field(default_factory=dict)
    checksum: str = seal.PLACE


class Lake:
    """The tables under one root: a folder, or the URL of a bucket."""

    def __init__(self, root: Path | str) -> None:
        self.root = root
        self._store = store_at(root)

    def path(self, table: str, partition: str | None = None) -> Path | str:
        """Where a part lies: a path, or a URL; partitioned tables have one part per partition."""
        return self._store.locate(_name(table, partition))

    def partitions(self, table: str) -> list[str]:
        """Partitions of a table that have a part, sorted."""
        begin, end = f"{table}/{_folder_key(TABLES[table])}=", f"/{_PART}"
        names = self._store.names(table)
        return sorted(
            name.removeprefix(begin).removesuffix(end)
            for name in names
            if name.startswith(begin) and name.endswith(end)
        )

    def exists(self, table: str, partition: str | None = None) -> bool:
        """Whether a part is there."""
        return self.stamp(table, partition) is not None

    def stamp(self, table: str, partition: str | None = None) -> object | None:
        """Something that is equal while a part has not been replaced; None where there is none."""
        return self._store.stamp(_name(table, partition))

    def content(self, table: str, partition: str | None = None) -> bytes:
        """A part's bytes as they are stored."""
        return self._store.read(_name(table, partition))

    def claim(self, study: str) -> None:
        """Make the lake that of a study, whose retired models are deleted from it.

        Raises:
            InputError: it belongs to another study.
        """
        if self._store.stamp(_OWNER) is None:
            self._store.replace(_OWNER, study.encode())
        elif (owner := self._store.read(_OWNER).decode()) != study:
            raise InputError(
                f"{self.root}: holds the tables of study {owner!r}, expected {study!r}; choose another lake"
            )

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
            InputError: the rows break the table's declaration, or the store is full or not writable.
        """
        rows = _checked(frame, TABLES[table], partition)
        footer = Footer(fingerprint=fingerprint, data_version=data_version(rows), cost=cost or {})
        buffer = io.BytesIO()
        rows.write_parquet(buffer, compression="zstd", metadata={_FOOTER_KEY: json.dumps(asdict(footer))})
        checksum = seal.seal(buffer.getbuffer())
        self._store.replace(_name(table, partition), buffer.getbuffer())
        return replace(footer, checksum=checksum)

    def read(self, table: str, partition: str | None = None) -> pl.DataFrame:
        """All rows of a part.

        Raises:
            InputError: there is no such part, or it cannot be read.
        """
        path = self.path(table, partition)
        try:
            content = self.content(table, partition)
        except FileNotFoundError:
            raise InputError(f"{path}: missing; materialize {table} first") from None
        if not _is_whole(content):
            raise InputError(f"{path}: damaged, its bytes are not those that were written; run again to make it anew")
        return pl.read_parquet(content, hive_partitioning=False)

    def read_partitions(self, table: str, partitions: Iterable[str | None]) -> pl.DataFrame:
        """The rows of several parts; an empty frame with the table's columns where there are none."""
        frames = [self.read(table, partition) for partition in partitions]
        return pl.concat(frames) if frames else TABLES[table].polars_schema.to_frame()

    def footer(self, table: str, partition: str | None = None) -> Footer | None:
        """What a part says of itself; None where it is missing, truncated or not ours."""
        try:
            end = self._store.read_tail(_name(table, partition))
        except OSError:
            return None
        try:
            content = seal.stated(end, _FOOTER_BEGIN) or _footer_without_checksum(end)
            return Footer(**json.loads(content)) if content else None
        # The bytes that are damaged are those of the footer's own text.
        except (ValueError, TypeError):
            return None

    def verify(self, table: str, partition: str | None = None) -> bool:
        """Whether a part is there and its bytes are those that were written; one from before checksums counts so."""
        try:
            return _is_whole(self.content(table, partition))
        except FileNotFoundError:
            return False

    def remove(self, table: str, partition: str | None = None) -> None:
        """Delete a part; nothing happens where there is none."""
        self._store.remove(_name(table, partition))


def _is_whole(content: bytes) -> bool:
    return seal.is_whole(content) or _footer_without_checksum(content) is not None


def _footer_without_checksum(end: bytes) -> str | None:
    """The footer of a part from before there were checksums; None where it is none."""
    try:
        content = pl.read_parquet_metadata(io.BytesIO(end)).get(_FOOTER_KEY)
        # By all of its keys: in a damaged footer the key of the checksum may be what is damaged.
        whole = content is not None and json.loads(content).keys() == {"fingerprint", "data_version", "cost"}
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, AttributeError):
        return None
    return content if whole else None


def data_version(frame: pl.DataFrame) -> str:
    """Hash of a frame's column names, types and rows in their order; equal for equal content."""
    buffer = io.BytesIO()
    # Parquet, not Arrow: what lies under a null in an Arrow buffer is arbitrary, Parquet leaves it out.
    frame.write_parquet(buffer, compression="uncompressed", statistics=False)
    return hashlib.sha256(buffer.getbuffer()).hexdigest()[:32]


def _name(table: str, partition: str | None) -> str:
    """A part's name in the store.

    Raises:
        InputError: the partition is no slug: Dagster takes any text as a key, ``../..`` too.
    """
    spec = TABLES[table]
    if partition is not None and not is_slug(partition):
        raise InputError(f"table {table}: partition {partition!r} is no slug (letters a-z, digits, '-' and '_')")
    assert (spec.partition is None) == (partition is None), f"{table} is partitioned by {spec.partition}"
    return f"{table}/{_PART}" if partition is None else f"{table}/{_folder_key(spec)}={partition}/{_PART}"


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
