"""Scores and losses that were computed elsewhere, from files to rows of ``imported_scores`` and ``imported_bpb``.

Two layouts. Long, CSV or Parquet, one row per value: columns ``slug`` (ours) or ``model`` (any name), then ``task``,
``metric``, ``value`` [, ``stderr``, ``samples``] or ``domain``, ``bpb`` [, ``nll`` in nats, ``tokens``, ``bytes``,
``fingerprint``], and [``family``, ``source``, ``revision``] in both. Wide, CSV: one row per task or domain, its name in
the only column whose header is no model; the other headers are ``('family', 'repo')`` or ``('family',
'repo_revision')``, as the published matrices of Thrush, Potts and Hashimoto (arXiv 2409.05816) have them.

Rows are counted from 1 in errors, the header not counted. Values must be finite and BPB not negative; whether a score
fits its metric is known only with the targets (``check_scores``). How a value was computed, and whether two files mean
the same text by a domain's name, is not known.
"""

import ast
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.names import is_slug
from ppl_assets.schema import TABLES

# What a repository's name may carry behind an underscore: a training step, or a commit. Any other underscore, as in
# open_llama, belongs to the name.
_REVISION = re.compile(r"^(?P<source>[^/]+/.+)_(?P<revision>step\d+|[0-9a-f]{40})$")


_LINEAGE = ("source", "revision")
# Columns of names that a long file may have and leave empty.
_STATED = (*_LINEAGE, "fingerprint")
# What may stand beside a value, and the least that it can be; a null is not stated.
_LEAST = {"stderr": 0, "nll": 0, "samples": 1, "tokens": 1, "bytes": 1}
_COUNTS = {"samples", "tokens", "bytes"}
# Files come from strangers: a small one may unpack to more than memory holds. 10,000 domains of 1,000 models take less.
_MOST_BYTES, _MOST_COLUMNS = 1 << 31, 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedModel:
    """A model as a file names it. Two that share `source` and `revision` are one model under two names."""

    slug: str
    family: str
    source: str | None
    revision: str | None


def read_scores(path: Path, metrics: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Rows of ``imported_scores``, in the file's order; `metrics` names the metric of each task of a wide file.

    A task of a wide file that `metrics` does not name gets the metric ``value``.

    Raises:
        InputError: the file is missing, unreadable, truncated or not UTF-8; a column is missing; a model, or a task and
            metric of it, stands twice; a value is missing, not a number or not finite; a standard error or a number of
            samples cannot be one.
    """
    table = _read(path)
    if _is_wide(table):
        rows = _melt(table, path, label="task", value="value")
        names = metrics or {}
        metric = pl.Series("metric", [names.get(task, "value") for task in rows["task"]], dtype=pl.String)
        rows = rows.with_columns(metric)
    else:
        rows = _long(table, path, names=("task", "metric"), numbers=("value",), optional=("stderr", "samples"))
    return _finish(rows, path, "imported_scores", value="value", minimum=-math.inf)


def read_bpb(path: Path) -> pl.DataFrame:
    """Rows of ``imported_bpb``, in the file's order.

    Raises:
        InputError: the file is missing, unreadable, truncated or not UTF-8; a column is missing; a model or domain
            stands twice; a value is missing, not a number, not finite or negative; nats, tokens or bytes cannot be what
            they say.
    """
    table = _read(path)
    if _is_wide(table):
        rows = _melt(table, path, label="domain", value="bpb")
    else:
        rows = _long(table, path, names=("domain",), numbers=("bpb",), optional=("nll", "tokens", "bytes"))
    return _finish(rows, path, "imported_bpb", value="bpb", minimum=0)


def slug_of(name: str) -> str:
    """A valid slug from any name: lower case, ``-`` for what a slug cannot hold, no leading ``-`` or ``_``."""
    return re.sub(r"[^a-z0-9_-]", "-", name.lower()).lstrip("-_")[:100]


def split_revision(name: str) -> tuple[str, str | None]:
    """Repository and revision of ``repo`` or ``repo_revision``, where the revision is a step or a commit."""
    found = _REVISION.match(name)
    return (found["source"], found["revision"]) if found else (name, None)


def _read(path: Path) -> pl.DataFrame:
    """The file as a table; of a CSV file all columns are text."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a CSV or Parquet file")
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix == ".csv":
        _check_size(path, path.stat().st_size, columns=0)
        return _read_csv(path)
    raise InputError(f"{path}: found a file of type {path.suffix or 'none'!r}, expected .csv or .parquet")


def _read_parquet(path: Path) -> pl.DataFrame:
    """A Parquet file whose own account of itself was looked at first; by Arrow, which answers damage with an error."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            _check_size(path, sum(group.total_byte_size for group in groups), columns=file.metadata.num_columns)
            nested = [field.name for field in file.schema_arrow if pa.types.is_nested(field.type)]
            if nested:
                raise InputError(f"{path}: column {nested[0]!r} is nested, expected text or numbers")
            table = pl.from_arrow(file.read())
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({error}); it may be truncated") from error
    assert isinstance(table, pl.DataFrame)
    return table


def _check_size(path: Path, n_bytes: int, *, columns: int) -> None:
    if n_bytes > _MOST_BYTES or columns > _MOST_COLUMNS:
        raise InputError(
            f"{path}: found {n_bytes:,} bytes unpacked and {columns:,} columns, "
            f"expected at most {_MOST_BYTES:,} and {_MOST_COLUMNS:,}"
        )


def _read_csv(path: Path) -> pl.DataFrame:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: byte {error.start} is not UTF-8; expected a CSV file in UTF-8"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header, *rows = ([(reader.line_num, row) for row in reader if row]) or [(0, [])]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not valid CSV ({error}); it may be truncated") from error
    names = header[1]
    if not rows:
        raise InputError(f"{path}: found no rows; expected a header line and at least one row")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(f"{path}: column {repeated[0]!r} stands {names.count(repeated[0])} times, expected once")
    for line, row in rows:
        if len(row) != len(names):
            raise InputError(f"{path}, line {line}: found {len(row)} fields, expected {len(names)} as in the header")
    columns = zip(*(row for _, row in rows), strict=True)
    return pl.DataFrame(dict(zip(names, columns, strict=True)), schema=dict.fromkeys(names, pl.String))


def _is_wide(table: pl.DataFrame) -> bool:
    return any(_header(name) for name in table.columns)


def _header(name: str) -> tuple[str, str] | None:
    """``('family', 'repo')`` of a model's column; None for another column."""
    if not name.startswith("("):
        return None
    try:
        content = ast.literal_eval(name)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    pair = isinstance(content, tuple) and len(content) == 2 and all(isinstance(part, str) for part in content)
    return content if pair else None


def _melt(table: pl.DataFrame, path: Path, *, label: str, value: str) -> pl.DataFrame:
    """One row per model and label of a wide table."""
    labels = [name for name in table.columns if not _header(name)]
    if len(labels) != 1:
        raise InputError(
            f"{path}: found {len(labels)} columns whose header is no ('family', 'repo'), expected one with the "
            f"{label}s: {labels[:3]}"
        )
    names = table[labels[0]].to_list()
    _check_once(names, path, label)
    headers = [header for name in table.columns if (header := _header(name))]
    models = _models(headers, path)
    numbers = [_numbers(table[name], path) for name in table.columns if name != labels[0]]
    parts = [
        _model_columns(pl.DataFrame({label: names, value: column}), model)
        for model, column in zip(models, numbers, strict=True)
    ]
    return pl.concat(parts)


def _models(headers: list[tuple[str, str]], path: Path) -> list[ImportedModel]:
    """Models of the columns of a wide file; columns that would get one slug get their family behind it."""
    plain = Counter(slug_of(name) for _, name in headers)
    models = []
    for family, name in headers:
        source, revision = split_revision(name)
        slug = slug_of(name) if plain[slug_of(name)] == 1 else slug_of(f"{name}-{family}")
        _check_slug(slug, name, path)
        models.append(ImportedModel(slug=slug, family=family, source=source, revision=revision))
    repeated = [slug for slug, count in Counter(model.slug for model in models).items() if count > 1]
    if repeated:
        columns = [header for header, model in zip(headers, models, strict=True) if model.slug == repeated[0]]
        raise InputError(f"{path}: columns {columns} are one model {repeated[0]!r}, expected each model once")
    return models


def _model_columns(rows: pl.DataFrame, model: ImportedModel) -> pl.DataFrame:
    return rows.with_columns(
        slug=pl.lit(model.slug),
        family=pl.lit(model.family),
        source=pl.lit(model.source, dtype=pl.String),
        revision=pl.lit(model.revision, dtype=pl.String),
    )


def _long(
    table: pl.DataFrame, path: Path, *, names: tuple[str, ...], numbers: tuple[str, ...], optional: tuple[str, ...]
) -> pl.DataFrame:
    """The columns of a long table, numbers as numbers, with the models' columns."""
    key = next((name for name in ("slug", "model") if name in table.columns), None)
    missing = [name for name in (*names, *numbers) if name not in table.columns]
    if key is None or missing:
        absent = "slug' or 'model" if key is None else missing[0]
        raise InputError(f"{path}: column '{absent}' is missing; found {table.columns}")
    labels = [key, *names, *(["family"] if "family" in table.columns else [])]
    for label in labels:
        _check_names(table[label], path)
    stated = [name for name in _STATED if name in table.columns]
    table = table.with_columns(pl.col(stated).cast(pl.String).replace("", None))
    labels += stated
    present = [*numbers, *(name for name in optional if name in table.columns)]
    rows = table.select(labels).with_columns(
        _numbers(table[name], path, may_be_empty=name in optional) for name in present
    )
    for name in optional:
        if name in present:
            _check_stated(rows[name], path)
    return rows.join(_long_models(rows, key, path), on=key, how="left", maintain_order="left")


def _long_models(rows: pl.DataFrame, key: str, path: Path) -> pl.DataFrame:
    """One row per model of a long table: its name in column `key`, and its slug, family, source and revision."""
    models = []
    lineage = [name for name in ("family", *_LINEAGE) if name in rows.columns]
    stated = rows.select(key, *lineage).unique(maintain_order=True)
    _check_once(stated[key].to_list(), path, f"model with one {', '.join(lineage) or 'name'}")
    for row in stated.iter_rows(named=True):
        name = row[key]
        if key == "slug" and not is_slug(name):
            raise InputError(f"{path}: slug {name!r} is not valid; expected lower-case letters, digits, '-' and '_'")
        _check_slug(slug_of(name), name, path)
        source, revision = split_revision(name) if "/" in name else (None, None)
        owner = name.split("/")[0].lower() if source else slug_of(name)
        models.append(
            {
                key: name,
                "slug": slug_of(name),
                "family": row.get("family", owner),
                "source": row.get("source", source),
                "revision": row.get("revision", revision),
            }
        )
    repeated = [slug for slug, count in Counter(model["slug"] for model in models).items() if count > 1]
    if repeated:
        colliding = [model[key] for model in models if model["slug"] == repeated[0]]
        raise InputError(f"{path}: models {colliding} would get the same slug {repeated[0]!r}; give a column 'slug'")
    return pl.DataFrame(
        models, schema=dict.fromkeys(dict.fromkeys((key, "slug", "family", "source", "revision")), pl.String)
    )


def _check_slug(slug: str, name: str, path: Path) -> None:
    if not is_slug(slug):
        raise InputError(f"{path}: model {name!r} holds no letter a-z and no digit to make a slug of")


def _check_names(column: pl.Series, path: Path) -> None:
    """Refuse empty names."""
    if column.dtype != pl.String:
        raise InputError(f"{path}: column {column.name!r} holds {column.dtype}, expected text")
    empty = (column.is_null() | (column.str.strip_chars() == "")).arg_true()
    if empty.len():
        raise InputError(f"{path}, row {empty[0] + 1}: column {column.name!r} is empty, expected a name")


def _check_once(names: list[str], path: Path, what: str) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        rows = [row for row, name in enumerate(names, 1) if name == repeated[0]]
        raise InputError(f"{path}: {what} {repeated[0]!r} stands in rows {rows}, expected once")


def _numbers(column: pl.Series, path: Path, *, may_be_empty: bool = False) -> pl.Series:
    """A column as float64; what is no number is an error, what is empty is null where it may be."""
    if column.dtype == pl.String:
        stripped = column.str.strip_chars()
        numbers = stripped.cast(pl.Float64, strict=False)
        empty = stripped.is_null() | (stripped == "")
    elif column.dtype.is_numeric() or column.dtype == pl.Null:
        numbers = column.cast(pl.Float64)
        empty = column.is_null()
    else:
        raise InputError(f"{path}: column {column.name!r} holds {column.dtype}, expected numbers")
    wrong = (numbers.is_null() & ~empty if may_be_empty else numbers.is_null()).arg_true()
    if wrong.len():
        where = f"{path}, row {wrong[0] + 1}, column {column.name!r}"
        raise InputError(f"{where}: found {column[wrong[0]]!r}, expected a number")
    return numbers


def _check_stated(column: pl.Series, path: Path) -> None:
    """Refuse what is not finite or less than it can be, and counts with a fraction or past what an integer holds."""
    least, is_count = _LEAST[column.name], column.name in _COUNTS
    valid = column.is_finite() & (column >= least)
    if is_count:
        valid &= (column == column.round()) & (column < 2.0**63)
    wrong = (~valid).fill_null(False).arg_true()
    if wrong.len():
        where = f"{path}, row {wrong[0] + 1}, column {column.name!r}"
        expected = f"a {'whole' if is_count else 'finite'} number of at least {least}"
        raise InputError(f"{where}: found {column[wrong[0]]}, expected {expected}")


def _finish(rows: pl.DataFrame, path: Path, table: str, *, value: str, minimum: float) -> pl.DataFrame:
    """`rows` with the table's columns, after the checks that need all of them."""
    declared = TABLES[table]
    absent = [pl.lit(None, dtype=column.dtype).alias(name) for name, column in declared.by_name.items()]
    present = [
        pl.col(name) if name in rows.columns else empty for name, empty in zip(declared.by_name, absent, strict=True)
    ]
    finished = rows.select(present).cast(declared.polars_schema)
    keys = declared.keys
    wrong = finished.filter(~(pl.col(value).is_finite() & (pl.col(value) >= minimum)))
    if wrong.height:
        first = wrong.row(0, named=True)
        expected = "a finite number" + (f" of at least {minimum:g}" if minimum > -math.inf else "")
        raise InputError(f"{path}: {_key(first, keys)}: found {value} {first[value]}, expected {expected}")
    repeated = finished.filter(pl.struct(keys).is_duplicated())
    if repeated.height:
        found = _key(repeated.row(0, named=True), keys)
        raise InputError(f"{path}: {found} stands more than once, expected once")
    return finished


def _key(row: dict[str, Any], keys: tuple[str, ...]) -> str:
    return ", ".join(f"{'model' if key == 'slug' else key} {row[key]!r}" for key in keys)
