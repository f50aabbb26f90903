"""What a fastText model file of two labels holds, read with every length checked against the file.

fastText's own reader allocates what the file tells it to and believes every length: a model from a stranger could take
all memory, or end the process. Layout as written by fastText's saveModel (model version 12): magic word and version;
arguments; dictionary; whether quantised, input matrix; whether quantised, output matrix. Only what
`ppl_assets.filtering.linear_model` computes exactly is read: words without subwords, softmax, nothing quantised.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.study.schema import LARGEST_FILTER_BYTES, LONGEST_NGRAM

_MAGIC, _VERSION = 793712314, 12
_SUPERVISED, _SOFTMAX = 3, 3
# dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateThreshold; t.
_ARGUMENTS = struct.Struct("<12id")
# Entries, words, labels; tokens, pruned entries (-1 where nothing was pruned).
_DICTIONARY = struct.Struct("<3i2q")
# After a word's zero byte: its count, and 0 for a word or 1 for a label.
_ENTRY = struct.Struct("<qb")
_MATRIX = struct.Struct("<?2q")
_HEAD = struct.Struct("<2i")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FastTextModel:
    """A model as it was trained: the rows of `input_RF` are of words, then of the `buckets` of hashed n-grams.

    Axis letters: R rows, F the dimension, L labels.
    """

    words: list[bytes]
    labels: list[bytes]
    word_ngrams: int
    buckets: int
    input_RF: np.ndarray
    output_LF: np.ndarray


def read_model(path: Path) -> FastTextModel:
    """The model in a file of one gigabyte at most.

    Raises:
        InputError: names the file, what was found and what was expected.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a fastText model")
    size = path.stat().st_size
    if size > LARGEST_FILTER_BYTES:
        raise InputError(f"{path}: found {size:,} bytes, expected a fastText model of at most {LARGEST_FILTER_BYTES:,}")
    try:
        return _Reader(path.read_bytes()).model()
    except (struct.error, ValueError) as error:
        raise InputError(f"{path}: no fastText model that can be trusted: {error}") from error


class _Reader:
    """Reads a file's bytes from the first to the last."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def model(self) -> FastTextModel:
        magic, version = self._unpack(_HEAD)
        if (magic, version) != (_MAGIC, _VERSION):
            raise ValueError(f"found magic word {magic} and version {version}, expected {_MAGIC} and {_VERSION}")
        dimension, _, _, _, _, ngrams, loss, kind, buckets, _, longest_subword, _, _ = self._unpack(_ARGUMENTS)
        if (kind, loss, longest_subword) != (_SUPERVISED, _SOFTMAX, 0):
            raise ValueError(
                f"found model {kind}, loss {loss} and subwords of {longest_subword} letters, "
                f"expected {_SUPERVISED} (supervised), {_SOFTMAX} (softmax) and none"
            )
        if not (1 <= ngrams <= LONGEST_NGRAM and buckets >= (ngrams > 1)):
            raise ValueError(f"found {ngrams} words per n-gram and {buckets} buckets")
        words, labels = self._entries()
        input_RF = self._matrix(rows=len(words) + buckets, columns=dimension)
        output_LF = self._matrix(rows=len(labels), columns=dimension)
        if self._place != len(self._data):
            raise ValueError(f"found {len(self._data)} bytes, expected {self._place} by its own lengths")
        return FastTextModel(
            words=words,
            labels=labels,
            word_ngrams=ngrams,
            buckets=buckets,
            input_RF=input_RF,
            output_LF=output_LF,
        )

    def _unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        values = layout.unpack_from(self._data, self._place)
        self._place += layout.size
        return values

    def _entries(self) -> tuple[list[bytes], list[bytes]]:
        entries, words, labels, _, pruned = self._unpack(_DICTIONARY)
        if min(words, labels) < 0 or words + labels != entries or pruned >= 0:
            raise ValueError(f"found {entries} entries of {words} words and {labels} labels, {pruned} pruned")
        found: tuple[list[bytes], list[bytes]] = [], []
        for number in range(entries):
            entry = self._word()
            _, kind = self._unpack(_ENTRY)
            if kind != (number >= words):
                raise ValueError(f"found an entry of kind {kind} at {number}, expected {words} words and then labels")
            found[kind].append(entry)
        return found

    def _word(self) -> bytes:
        """A word ends with a zero byte."""
        end = self._data.find(b"\0", self._place)
        if end < 0:
            raise ValueError("found a word without an end")
        word, self._place = self._data[self._place : end], end + 1
        return word

    def _matrix(self, *, rows: int, columns: int) -> np.ndarray:
        quantised, found_rows, found_columns = self._unpack(_MATRIX)
        if quantised or (found_rows, found_columns) != (rows, columns) or columns < 1:
            raise ValueError(
                f"found a matrix of {found_rows} x {found_columns}, expected {rows} x {columns}, not quantised"
            )
        left = len(self._data) - self._place
        if 4 * rows * columns > left:
            raise ValueError(f"found {left} bytes, fewer than a matrix of {rows} x {columns} takes")
        matrix = np.frombuffer(self._data, "<f4", rows * columns, self._place).reshape(rows, columns)
        self._place += 4 * rows * columns
        return matrix
