"""Pages as packed sequences of tokens: one endless stream per seed, cut every so many tokens, with nothing left out.

Pages are tokenized once, in bounded memory, into a folder: ``pages-00000.parquet`` ... (page_id, tokens) and
``tokens.bin`` (their ids one after the other, a start token before each page). A seed's stream reads the pages in the
order of a hash of page id, seed and epoch: two arms read the pages that they share in the same order, whatever else
they hold. Sequence i is the tokens from i x length on; short pages share a sequence, long ones run over several, and a
page that ends the stream is followed by the first one of the next epoch. What lies behind the budget is not read.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ppl_assets.corpus.splits import seeded_hash
from ppl_assets.errors import InputError
from ppl_assets.training.checkpoints import replacing_folder

if TYPE_CHECKING:
    import torch

# Pages per shard and per call of the tokenizer: memory stays flat, and a shard is a few megabytes of ids.
_PAGES_AT_ONCE = 2048
_TOKENS, _DESCRIPTION = "tokens.bin", "tokens.json"


def tokenize_pages(
    pages: Iterable[tuple[str, str]], folder: Path, tokenizer: Any, *, start: int, identity: str
) -> None:
    """Write (page_id, text) pairs into `folder` as token ids; nothing happens where it holds the same already.

    Args:
        tokenizer: a `tokenizers.Tokenizer`; special tokens spelled out in a page are ordinary text.
        start: id of the token before each page.
        identity: of pages and tokenizer; a folder of another one is replaced.

    Raises:
        InputError: `folder` cannot be written.
    """
    if _described(folder).get("identity") == identity:
        return
    dtype = np.dtype(np.uint16 if tokenizer.get_vocab_size() <= 1 << 16 else np.uint32)
    with replacing_folder(folder) as temporary:
        with (temporary / _TOKENS).open("wb") as file:
            for number, batch in enumerate(_batches(pages)):
                encoded = tokenizer.encode_batch_fast([text for _, text in batch], add_special_tokens=False)
                for page in encoded:
                    file.write(np.array([start, *page.ids], dtype=dtype).tobytes())
                shard = {"page_id": [name for name, _ in batch], "tokens": [1 + len(page.ids) for page in encoded]}
                pl.DataFrame(shard).write_parquet(temporary / f"pages-{number:05d}.parquet")
        (temporary / _DESCRIPTION).write_text(json.dumps({"identity": identity, "dtype": dtype.name}))


class PackedPages:
    """The pages of a folder that `tokenize_pages` wrote; `tokens` counts them all, start tokens included.

    Raises:
        InputError: the folder holds no page.
    """

    def __init__(self, folder: Path, *, where: str) -> None:
        shards = sorted(folder.glob("pages-*.parquet"))
        if not shards:
            raise InputError(f"{where}: found no page to train on; expected a selection that holds some")
        pages = pl.concat([pl.read_parquet(shard) for shard in shards])
        self.page_ids: list[str] = pages["page_id"].to_list()
        self.lengths_P = pages["tokens"].to_numpy()
        self.begins_P = np.cumsum(self.lengths_P) - self.lengths_P
        self.tokens = int(self.lengths_P.sum())
        self.ids = np.memmap(folder / _TOKENS, dtype=_described(folder)["dtype"], mode="r")

    def stream(self, *, seed: int, epochs: int) -> "Stream":
        """The pages in the orders of `epochs` epochs of a seed."""
        return Stream(self, [self._order(seed, epoch) for epoch in range(epochs)])

    def _order(self, seed: int, epoch: int) -> np.ndarray:
        places = [seeded_hash(page_id, seed, f"pilot-{epoch}") for page_id in self.page_ids]
        return np.lexsort((np.array(self.page_ids), np.array(places)))


class Stream:
    """The tokens of pages in a given order."""

    def __init__(self, pages: PackedPages, orders: list[np.ndarray]) -> None:
        self._pages = pages
        self._order = np.concatenate(orders)
        self._ends = np.cumsum(pages.lengths_P[self._order])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, begin: int, count: int) -> np.ndarray:
        """`count` ids from place `begin` on, int64; fewer where the stream ends."""
        place = int(np.searchsorted(self._ends, begin, side="right"))
        found, held = [np.empty(0, np.int64)], 0
        while held < count and place < len(self._order):
            page = self._order[place]
            start = begin + held - (self._ends[place] - self._pages.lengths_P[page])
            taken = min(count - held, int(self._pages.lengths_P[page] - start))
            first = self._pages.begins_P[page] + start
            found.append(self._pages.ids[first : first + taken].astype(np.int64))
            held, place = held + taken, place + 1
        return np.concatenate(found)


class Sequences:
    """A map-style dataset of `count` sequences: the ids of a row, and of each the id that follows.

    Each token but the first of the stream is predicted once: the last one of a row by the row that it ends.
    """

    def __init__(self, stream: Stream, *, length: int, count: int) -> None:
        self._stream, self._length, self._count = stream, length, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> "dict[str, torch.Tensor]":
        import torch

        ids = torch.from_numpy(self._stream.read(index * self._length, self._length + 1))
        # `labels` asks a transformers model for its loss, `shift_labels` tells it that they are in place already.
        return {"input_ids": ids[:-1], "labels": ids[1:], "shift_labels": ids[1:]}


def epochs_needed(*, tokens: int, budget: int) -> int:
    """Whole epochs whose tokens cover a budget and the one token behind it."""
    return -(-(budget + 1) // tokens)


def check_budget(*, tokens: int, budget: int, max_epochs: float, where: str) -> None:
    """Refuse a budget that repeats pages more often than is allowed.

    Raises:
        InputError: says how much there is, and what would be enough.
    """
    if budget > max_epochs * tokens:
        raise InputError(
            f"{where}: found {tokens:,} tokens of pages, expected at least {budget / max_epochs:,.0f} for a budget of "
            f"{budget:,} at {max_epochs:g} epochs; lower budget_tokens, raise pilot.max_epochs or select more"
        )


def content_digest(pages: Iterable[tuple[str, bytes]]) -> str:
    """Identity of a set of pages, given as ids and digests of their texts (`corpus.splits.text_digest`)."""
    digest = hashlib.blake2b(digest_size=8)
    for page_id, text in sorted(pages):
        digest.update(page_id.encode() + b"\0" + text)
    return digest.hexdigest()


def _described(folder: Path) -> dict[str, str]:
    path = folder / _DESCRIPTION
    return json.loads(path.read_text()) if path.is_file() else {}


def _batches(pages: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    for page in pages:
        batch.append(page)
        if len(batch) == _PAGES_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
