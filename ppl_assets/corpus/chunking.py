"""Pages -> chunks of at most N reference tokens that concatenate back to the page byte for byte.

A reference token is the study's unit of length, the same for every model: a token of a ``tokenizer.json``, or a fixed
number of UTF-8 bytes. Special tokens are not counted. The bound holds for a chunk counted on its own, which is how
models read it; the counts of a page's chunks need not sum to the page's count, because tokenizers look across a cut.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import polars as pl

from ppl_assets.corpus.sources import corpus_of
from ppl_assets.errors import InputError
from ppl_assets.progress import Progress, Report
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Study

# Characters encoded to find one chunk's end, per token: English has 4 to 5; the window grows where it was too short.
_WINDOW_CHARACTERS = 6


class TokenCounter(Protocol):
    """What a reference token is."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Reference tokens of each text."""
        ...

    def longest(self, text: str, start: int, max_tokens: int) -> int:
        """Where (in characters) a chunk that begins at `start` ends, so that it has at most `max_tokens` tokens."""
        ...


class ByteCounter:
    """A fixed number of UTF-8 bytes is one token; bytes left over are one more."""

    def __init__(self, bytes_per_token: int) -> None:
        self._bytes_per_token = bytes_per_token

    def count(self, texts: Sequence[str]) -> list[int]:
        """Reference tokens of each text."""
        return [-(-len(text.encode("utf-8")) // self._bytes_per_token) for text in texts]

    def longest(self, text: str, start: int, max_tokens: int) -> int:
        """The longest chunk that fits, moved back to the end of a line, else of a word, in its second half."""
        room = max_tokens * self._bytes_per_token
        window = text[start : start + room]  # a character has at least one byte
        fitting = window.encode("utf-8")[:room].decode("utf-8", errors="ignore")
        if start + len(fitting) == len(text):
            return len(text)
        return start + max(_border(fitting), 1)


class FileCounter:
    """Tokens of a ``tokenizer.json``; the file is read at the first use."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        if not self._path.is_file():
            raise InputError(f"corpus.reference_tokenizer.file: no such file {str(self._path)!r}")
        try:
            tokenizer = Tokenizer.from_file(str(self._path))
        except Exception as error:  # the library raises nothing more precise
            raise InputError(f"{self._path}: not a tokenizer.json: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def count(self, texts: Sequence[str]) -> list[int]:
        """Reference tokens of each text."""
        return [len(tokens) for tokens in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def longest(self, text: str, start: int, max_tokens: int) -> int:
        """The end of the `max_tokens`-th token, or an earlier one where the chunk alone has more tokens."""
        window, ends = _WINDOW_CHARACTERS * max_tokens, list[int]()
        while len(ends) <= max_tokens:
            piece = text[start : start + window]
            ends = [end for _, end in self._tokenizer.encode(piece, add_special_tokens=False).offsets]
            if start + window >= len(text) and len(ends) <= max_tokens:
                return len(text)
            window *= 2
        tokens = max_tokens
        while tokens > 0:
            chunk = piece[: ends[tokens - 1]]
            excess = self.count([chunk])[0] - max_tokens
            if chunk and excess <= 0:
                return start + len(chunk)
            tokens -= max(excess, 1)
        return start + 1


def reference_counter(study: Study) -> TokenCounter:
    """What a reference token is in the study."""
    stated = corpus_of(study).reference_tokenizer
    return ByteCounter(stated.bytes_per_token) if stated.file is None else FileCounter(study.path(stated.file))


def chunk_page(text: str, max_tokens: int, counter: TokenCounter) -> list[str]:
    """The text cut into chunks of at most `max_tokens` reference tokens, each as long as a good cut allows.

    Chunks concatenate to the text and none is empty. A single character of more than `max_tokens` tokens (possible
    where these are a few bytes) stays whole.
    """
    chunks, start = list[str](), 0
    while start < len(text):
        end = counter.longest(text, start, max_tokens)
        chunks.append(text[start:end])
        start = end
    return chunks


def chunk_pages(pages: pl.DataFrame, study: Study, *, progress: Report | None = None) -> pl.DataFrame:
    """The table ``chunks``: the scoring pages of `pages` (the table of that name), cut."""
    counter, max_tokens, began = reference_counter(study), corpus_of(study).chunk_tokens, monotonic()
    scoring = pages.filter(pl.col("split") == "scoring")
    rows: list[tuple[str, str, str, int, int, int, str]] = []
    for done, (page_id, domain, text) in enumerate(scoring.select("page_id", "domain", "text").iter_rows(), start=1):
        chunks = chunk_page(text, max_tokens, counter)
        for position, (chunk, tokens) in enumerate(zip(chunks, counter.count(chunks), strict=True)):
            n_bytes = len(chunk.encode("utf-8"))
            rows.append((f"{page_id}#{position}", page_id, domain, position, n_bytes, tokens, chunk))
        if progress:
            progress(Progress(done=done, total=scoring.height, unit="pages", seconds=monotonic() - began))
    return pl.DataFrame(rows, schema=TABLES["chunks"].polars_schema, orient="row")


def _border(piece: str) -> int:
    """Where to cut so that a line, else a word, stays whole, if that keeps half of the piece; else its end."""
    half = len(piece) // 2
    return piece.rfind("\n", half) + 1 or max(piece.rfind(" ", half), piece.rfind("\t", half)) + 1 or len(piece)
