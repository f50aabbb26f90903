"""Rows -> pages: Parquet and JSONL files, and datasets of the Hugging Face hub.

One row is one page; the study names its columns. A row that lacks a text or a domain is a rejection, counted by
reason. What concerns a whole file (no such column, cut off, not UTF-8) is an error, because every number after it would
silently miss text.
"""

import glob
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ppl_assets.corpus.pages import Page, Rejection, text_rejection
from ppl_assets.errors import InputError, suggestion
from ppl_assets.study.schema import Files, HuggingFaceDataset, PageColumns, Study

# A few kilobytes of .gz may unpack to a line that no memory holds.
_MOST_LINE_BYTES = 1 << 28
# A JSONL file has no schema: a column that none of so many rows has is taken to be missing, not merely rare.
_ROWS_TO_FIND_A_COLUMN = 1000
# Rows of a Parquet file decoded at once: web pages of 5 kB make this some megabytes.
_PARQUET_BATCH_ROWS, _PARQUET_BUFFER_BYTES = 1000, 2**20

Row = Mapping[str, Any]


def source_files(source: Files, study: Study) -> list[tuple[str, Path]]:
    """The source's files, in order, each with the name that page ids carry: its path relative to the study.

    Raises:
        InputError: a path that is no file, a pattern without a match.
    """
    found: dict[str, Path] = {}
    for pattern in source.paths:
        expanded = str(Path(pattern).expanduser())
        is_pattern = glob.has_magic(expanded) and not study.path(pattern).exists()
        names = sorted(glob.glob(expanded, root_dir=study.folder, recursive=True)) if is_pattern else [expanded]
        files = {Path(name).as_posix(): study.path(name) for name in names if study.path(name).is_file()}
        if not files:
            what = "no file matches the pattern" if is_pattern else "no such file"
            raise InputError(f"corpus.source.paths: {what} {str(study.path(pattern))!r}")
        found |= files
    return sorted(found.items())


def file_pages(source: Files, study: Study, *, part: str | None = None) -> Iterator[Page | Rejection]:
    """Pages of Parquet or JSONL files; the default page id is the file's name and the row or line, from 1.

    Of the file named `part` alone, where one is named.
    """
    read, unit = (_parquet_rows, "row") if source.kind == "parquet" else (_jsonl_rows, "line")
    for name, path in source_files(source, study):
        if part not in (None, name):
            continue
        for number, row in read(path, source):
            yield _page(source, row, f"{name}:{number}", f"{path}, {unit} {number}")


def dataset_pages(source: HuggingFaceDataset, study: Study) -> Iterator[Page | Rejection]:
    """Pages of a dataset on the hub, streamed, or of a local folder that `dataset` names relative to the study."""
    where = f"dataset {source.dataset!r}, revision {source.revision!r}, split {source.split!r}"
    for number, row in _with_columns(_dataset_rows(source, study, where), columns_of(source), where):
        yield _page(source, row, f"{source.dataset}:{number}", f"{where}, row {number}")


def _dataset_rows(source: HuggingFaceDataset, study: Study, where: str) -> Iterator[tuple[int, Row]]:
    """Rows of a dataset, numbered from 1."""
    import datasets

    folder, row = study.path(source.dataset), 0
    name = str(folder) if folder.is_dir() else source.dataset
    try:
        stream = datasets.load_dataset(
            name, source.subset, split=source.split, revision=source.revision, streaming=True
        )
        for values in stream:
            row += 1
            yield row, values
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{where}, after row {row}: cannot be read: {error}") from error


def named_in(source: PageColumns) -> list[str]:
    """What a study names as its columns, text first."""
    optional = (source.id, source.domain, source.url, source.language, source.license, source.maker, source.group)
    return [source.text, *(column for column in optional if column is not None)]


def columns_of(source: PageColumns) -> list[str]:
    """The columns that are read, text first; of a name with dots its first part, which holds the rest."""
    return list(dict.fromkeys(name.partition(".")[0] for name in named_in(source)))


@lru_cache(maxsize=1)
def _suffixes() -> Callable[[str], Any]:
    """The public-suffix rules that tldextract carries; nothing is fetched, nothing is cached on disk."""
    import tldextract

    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


def registered_domain(url: str) -> str | None:
    """The registered domain of a URL, in lower case; None for an IP address or a host without one."""
    return _suffixes()(url).top_domain_under_public_suffix.lower() or None


def _page(source: PageColumns, row: Row, default_id: str, where: str) -> Page | Rejection:
    """A row as a page, or the rejection that stands for it."""

    def value(column: str | None) -> str | None:
        return None if column is None else _attribute(_reach(row, column, where), column, where)

    page_id, url, text = value(source.id) or default_id, value(source.url), _reach(row, source.text, where)
    if text is not None and not isinstance(text, str):
        raise InputError(f"{where}: {source.text!r} is {_type(text)}, expected text")
    domain = registered_domain(url) if url else value(source.domain)
    rejected = text_rejection(text)
    if domain is None:
        n_bytes = len((text or "").encode("utf-8", "surrogatepass"))
        return Rejection(page_id=page_id, domain="", reason="no_domain", bytes=n_bytes)
    if text is None or rejected:
        reason, n_bytes = rejected or ("null", 0)
        return Rejection(page_id=page_id, domain=domain, reason=reason, bytes=n_bytes)
    return Page(
        page_id=page_id,
        domain=domain,
        text=text,
        domain_group=value(source.group),
        language=value(source.language),
        license=value(source.license),
        maker=value(source.maker),
    )


def _reach(row: Row, column: str, where: str) -> Any:
    """The value of a column; behind a dot, of a key of the struct or of the JSON text in it."""
    head, _, rest = column.partition(".")
    value = row.get(head)
    if not rest or value is None:
        return value
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InputError(f"{where}: {head!r} is not JSON ({error}), expected an object with {rest!r}") from error
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: {head!r} is {_type(value)}, expected an object with {rest!r}")
    return _reach(value, rest, where)


def _attribute(value: Any, column: str, where: str) -> str | None:
    """A short column's value as text; None where it is null or blank."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str):
        raise InputError(f"{where}: {column!r} is {_type(value)}, expected text or a whole number")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: {column!r} holds half of a surrogate pair, expected UTF-8") from error
    return value


def _type(value: Any) -> str:
    """What a value is, in an error message."""
    return f"{type(value).__name__} {str(value)[:40]!r}"


def _missing_column(where: str, column: str, present: list[str]) -> InputError:
    """The error for a column that a file or dataset does not have."""
    hint = suggestion(column, present) or f"; it has {', '.join(map(repr, sorted(present))) or 'none'}"
    return InputError(f"{where}: no column {column!r}{hint}")


def _with_columns(rows: Iterator[tuple[int, Row]], columns: list[str], where: str) -> Iterator[tuple[int, Row]]:
    """The rows, unless one of the columns is in none of them."""
    missing, present, seen = set(columns), dict[str, None](), 0
    for number, row in rows:
        if missing:
            seen += 1
            present |= dict.fromkeys(row)
            missing -= row.keys()
            if missing and seen == _ROWS_TO_FIND_A_COLUMN:
                break
        yield number, row
    if missing and seen:
        raise _missing_column(where, min(missing), list(present))


def _parquet_rows(path: Path, source: PageColumns) -> Iterator[tuple[int, Row]]:
    """Rows of a Parquet file, numbered from 1, a batch at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        # Both options are needed to read column chunks in pieces: a row group may be as large as the file.
        with pq.ParquetFile(path, buffer_size=_PARQUET_BUFFER_BYTES, pre_buffer=False) as file:
            _check_parquet_columns(path, file.schema_arrow, source)
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS, columns=columns_of(source)):
                for values in _parquet_values(batch, path, row):
                    row += 1
                    yield row, values
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}, after row {row}: not a complete Parquet file: {error}") from error


def _parquet_values(batch: Any, path: Path, before: int) -> list[Row]:
    """Rows of a batch, which `before` others precede in the file."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        for row in range(batch.num_rows):
            try:
                batch.slice(row, 1).to_pylist()
            except UnicodeDecodeError as error:
                where = f"{path}, row {before + row + 1}"
                raise InputError(f"{where}: not UTF-8 ({error.reason}); expected UTF-8 text") from error
        raise


def _check_parquet_columns(path: Path, schema: Any, source: PageColumns) -> None:
    """Refuse a Parquet file without the columns, or whose columns hold no text."""
    import pyarrow as pa

    for name in named_in(source):
        dtype = _parquet_type(path, schema, name)
        is_text = pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)
        is_key = name != source.text and pa.types.is_integer(dtype)
        if not (is_text or is_key or pa.types.is_null(dtype)):
            raise InputError(f"{path}: column {name!r} is {dtype}, expected text")


def _parquet_type(path: Path, fields: Any, name: str) -> Any:
    """The type of a column; behind a dot, of a field of the struct in it. Of JSON in a column, that of the column."""
    import pyarrow as pa

    head, _, rest = name.partition(".")
    present = [field.name for field in fields]
    if head not in present:
        raise _missing_column(str(path), head, present)
    dtype = fields.field(head).type
    dtype = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    return _parquet_type(path, dtype, rest) if rest and pa.types.is_struct(dtype) else dtype


def _jsonl_rows(path: Path, source: PageColumns) -> Iterator[tuple[int, Row]]:
    """Objects of a JSONL file with their line numbers from 1; blank lines are passed over."""
    rows = (
        (number, _json_object(line, f"{path}, line {number}"))
        for number, line in enumerate(_lines(path), start=1)
        if line.strip()
    )
    return _with_columns(rows, columns_of(source), str(path))


def _json_object(line: bytes, where: str) -> Row:
    """The JSON object that a line holds."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: byte {error.start} of the line is not UTF-8; expected UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}); expected one JSON object per line") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: found {_type(row)}, expected one JSON object per line")
    return row


def _lines(path: Path) -> Iterator[bytes]:
    """Lines of a plain, .gz or .zst file, as bytes."""
    import zstandard

    number = 0
    try:
        with _open(path) as file:
            while line := file.readline(_MOST_LINE_BYTES + 1):
                number += 1
                if len(line) > _MOST_LINE_BYTES:
                    raise InputError(f"{path}, line {number}: over {_MOST_LINE_BYTES:,} bytes, expected one page")
                yield line
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"{path}, after line {number}: cut off or unreadable: {error}") from error


def _open(path: Path) -> io.BufferedIOBase:
    """A file's bytes, decompressed by its suffix."""
    if path.suffix == ".gz":
        return gzip.GzipFile(path)
    if path.suffix == ".zst":
        return io.BufferedReader(_ZstdReader(path))
    return path.open("rb")


class _ZstdReader(io.RawIOBase):
    """Decompressed bytes of a .zst file of any number of frames.

    zstandard's own reader ends without a word where a file was cut off inside a frame.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            block = self._frame.unused_data if self._frame and self._frame.eof else b""
            block = block or self._file.read(io.DEFAULT_BUFFER_SIZE)
            if not block:
                if self._frame and not self._frame.eof:
                    raise EOFError("the file ends inside a zstd frame")
                return 0
            self._ready = memoryview(self._decompress(block))
        n_bytes = min(len(buffer), len(self._ready))
        buffer[:n_bytes], self._ready = self._ready[:n_bytes], self._ready[n_bytes:]
        return n_bytes

    def _decompress(self, block: bytes) -> bytes:
        import zstandard

        if self._frame is None or self._frame.eof:
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        return self._frame.decompress(block)

    def close(self) -> None:
        self._file.close()
        super().close()
