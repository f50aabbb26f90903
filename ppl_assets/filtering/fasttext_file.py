"""Whether a file is a fastText model whose every length fits the file, checked before fastText's own reader sees it.

That reader allocates what the file tells it to and believes every length: a model from a stranger could take all
memory, or end the process. Layout as written by fastText's saveModel (model version 12): magic word and version;
arguments; dictionary; whether quantised, input matrix; whether quantised, output matrix. Quantised models are not ours.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from ppl_assets.errors import InputError

_MAGIC, _VERSION = 793712314, 12
# dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateThreshold; t.
_ARGUMENTS = struct.Struct("<12id")
# Entries, words, labels; tokens, pruned entries.
_DICTIONARY = struct.Struct("<3i2q")
_ENTRY = struct.Struct("<qb")
_MATRIX = struct.Struct("<?2q")
_LONGEST_WORD = 1 << 16
# Sixty times the largest model that a default filter of 200,000 buckets makes.
LARGEST_BYTES = 1 << 30


def check_model_file(path: Path) -> None:
    """Refuse what is no plain fastText model of one gigabyte at most.

    Raises:
        InputError: names the file, what was found and what was expected.
    """
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise InputError(f"{path}: found {size:,} bytes, expected a fastText model of at most {LARGEST_BYTES:,}")
    with path.open("rb") as file:
        try:
            _check(file, size)
        except (struct.error, ValueError) as error:
            raise InputError(f"{path}: no fastText model that can be trusted: {error}") from error


def _check(file: BinaryIO, size: int) -> None:
    magic, version = struct.unpack("<2i", file.read(8))
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError(f"found magic word {magic} and version {version}, expected {_MAGIC} and {_VERSION}")
    dimension, *_ = arguments = _ARGUMENTS.unpack(file.read(_ARGUMENTS.size))
    buckets = arguments[8]
    entries, words, labels, _, pruned = _DICTIONARY.unpack(file.read(_DICTIONARY.size))
    if min(dimension, buckets, entries, words, labels) < 0 or words + labels != entries or pruned > 0:
        raise ValueError(f"found {entries} entries of {words} words and {labels} labels, {pruned} pruned")
    for _ in range(entries):
        _skip_word(file)
        _ENTRY.unpack(file.read(_ENTRY.size))
    _skip_matrix(file, size, rows=words + buckets, columns=dimension)
    _skip_matrix(file, size, rows=labels, columns=dimension)
    if file.tell() != size:
        raise ValueError(f"found {size} bytes, expected {file.tell()} by its own lengths")


def _skip_word(file: BinaryIO) -> None:
    """A word ends with a zero byte."""
    start, word = file.tell(), b""
    while b"\0" not in word:
        more = file.read(64)
        word += more
        if not more or len(word) > _LONGEST_WORD:
            raise ValueError("found a word without an end")
    file.seek(start + word.index(b"\0") + 1)


def _skip_matrix(file: BinaryIO, size: int, *, rows: int, columns: int) -> None:
    quantised, found_rows, found_columns = _MATRIX.unpack(file.read(_MATRIX.size))
    if quantised or (found_rows, found_columns) != (rows, columns):
        raise ValueError(
            f"found a matrix of {found_rows} x {found_columns}, expected {rows} x {columns}, not quantised"
        )
    file.seek(4 * rows * columns, 1)
    if file.tell() > size:
        raise ValueError(f"found {size} bytes, fewer than its matrices take")
