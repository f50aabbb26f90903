"""Batches of training tokens: pages packed into sequences, drawn by a mixture over domain patterns.

Of each pattern, the pages' pieces of 2,000 characters are read in a seeded order, a page's first one behind an
end-of-text token; when all are read, again in a new order. What is read is cut into sequences, which are shuffled by
the thousand. So within a pattern every character counts alike, however long its page, and a pattern's share of the
sequences is its weight. A page that several patterns match is read for each of them.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.training.tokenizer import END_OF_TEXT

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Pages are read in pieces, lest one long page fill a batch and the next ones; a thousand rows are of many pieces.
_PIECE_CHARACTERS = 2000
_BUFFER_ROWS = 1024
_PIECES_AT_ONCE = 128  # encoded together: enough to amortise the call, few enough to keep memory flat


def batches(
    pages: pl.DataFrame,
    mixture: Mapping[str, float],
    tokenizer: "Tokenizer",
    *,
    sequences: int,
    tokens: int,
    seed: int,
    where: str,
) -> Iterator[np.ndarray]:
    """Endless batches of token ids, int64 of shape (`sequences`, `tokens`); the same for the same seed.

    `pages` (columns page_id, domain, text) may be in any order. `mixture` gives the weight of each domain pattern;
    weights are normalised. `where` names the run in errors.

    Raises:
        InputError: a pattern matches no domain.
    """
    patterns = sorted(mixture)
    texts = texts_by_pattern(pages, patterns, where=where)
    draw, *orders = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(1 + len(patterns)))
    streams = [_rows(texts[pattern], tokenizer, tokens, order) for pattern, order in zip(patterns, orders, strict=True)]
    weights = np.array([mixture[pattern] for pattern in patterns])
    while True:
        chosen = draw.choice(len(patterns), size=sequences, p=weights / weights.sum())
        yield np.stack([next(streams[index]) for index in chosen])


def texts_by_pattern(pages: pl.DataFrame, patterns: list[str], *, where: str) -> dict[str, list[str]]:
    """Texts of the pages whose domain matches each pattern, in order of page id.

    Raises:
        InputError: a pattern matches no domain.
    """
    ordered = pages.sort("page_id")
    domains = ordered["domain"].unique().sort().to_list()
    texts = {}
    for pattern in patterns:
        matching = [domain for domain in domains if fnmatchcase(domain, pattern)]
        if not matching:
            some = ", ".join(domains[:5]) or "none at all"
            raise InputError(
                f"{where}: pattern {pattern!r} matches no domain with training pages; found {len(domains)} domains: "
                f"{some}{', ...' if len(domains) > 5 else ''}"
            )
        texts[pattern] = ordered.filter(pl.col("domain").is_in(matching))["text"].to_list()
    return texts


def _rows(texts: list[str], tokenizer: "Tokenizer", tokens: int, order: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless rows of `tokens` ids cut from the pieces of the pages, in an order in which neighbours differ."""
    pieces, held = [np.empty(0, dtype=np.int64)], 0
    for encoded in _encoded(texts, tokenizer, order):
        pieces.append(encoded)
        held += len(encoded)
        if held < _BUFFER_ROWS * tokens:
            continue
        stream = np.concatenate(pieces)
        cut = held - held % tokens
        yield from order.permutation(stream[:cut].reshape(-1, tokens))
        pieces, held = [stream[cut:]], held - cut


def _encoded(texts: list[str], tokenizer: "Tokenizer", order: np.random.Generator) -> Iterator[np.ndarray]:
    """Token ids of the pieces of all texts, over and over, each time in a new random order."""
    start = np.array([tokenizer.token_to_id(END_OF_TEXT)])
    pieces = [(number, place) for number, text in enumerate(texts) for place in range(0, len(text), _PIECE_CHARACTERS)]
    while True:
        shuffled = [pieces[index] for index in order.permutation(len(pieces))]
        for begin in range(0, len(shuffled), _PIECES_AT_ONCE):
            some = shuffled[begin : begin + _PIECES_AT_ONCE]
            cut = [texts[number][place : place + _PIECE_CHARACTERS] for number, place in some]
            for (_, place), encoding in zip(some, tokenizer.encode_batch_fast(cut), strict=True):
                ids = np.array(encoding.ids, dtype=np.int64)
                yield ids if place else np.concatenate([start, ids])
