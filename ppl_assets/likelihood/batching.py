"""Which tokens are scored in which forward pass: windows of long texts, and batches of a token budget.

A piece is one row of a batch: tokens ``[start, stop)`` of a text are scored given the start token and the text's tokens
``[context, start)``. A text within the model's context is one piece; a longer one is cut so that each token is scored
exactly once. Batches are cut from the pieces sorted by length, longest first, so that too large a budget fails at once
and rows of a batch hardly differ in length (padding under 1 % at a budget of 4,096 tokens and 2,000 texts of 10 to
512).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """P rows to score; int64 [P] each: the text's position, and its token positions as in the module docstring."""

    text: np.ndarray
    context: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        return len(self.text)

    @property
    def length(self) -> np.ndarray:
        """int64 [P]: positions of the row: the start token and all its tokens but the last."""
        return self.stop - self.context


def cut_pieces(tokens_N: np.ndarray, scored_N: np.ndarray, *, window: int | None, overlap: int) -> Pieces:
    """Pieces of the texts where `scored_N` is True, in text order.

    `window` is the most positions a row may have (None: no limit); later windows of a text see `overlap` tokens of
    context.
    """
    assert window is None or 0 <= overlap < window
    rows: list[tuple[int, int, int, int]] = []
    for text in np.flatnonzero(scored_N & (tokens_N > 0)).tolist():
        n = int(tokens_N[text])
        start, stop = 0, n if window is None else min(n, window)
        rows.append((text, 0, start, stop))
        while window is not None and stop < n:
            start, stop = stop, min(stop + window - overlap, n)
            rows.append((text, start - overlap, start, stop))
    table = np.array(rows, np.int64).reshape(-1, 4)
    return Pieces(text=table[:, 0], context=table[:, 1], start=table[:, 2], stop=table[:, 3])


def next_batch(order: np.ndarray, length_P: np.ndarray, done: int, budget: int) -> np.ndarray:
    """The next pieces of `order` (longest first) that fill at most `budget` positions with padding; at least one."""
    rows = max(budget // max(int(length_P[order[done]]), 1), 1)
    return order[done : done + rows]


def longest_first(length_P: np.ndarray) -> np.ndarray:
    """Positions of the pieces by falling length; equal lengths keep their order."""
    return np.argsort(-length_P, kind="stable")
