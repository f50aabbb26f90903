"""A fastText model of two labels as what it comes to: one number for each word and each bucket of n-grams.

fastText averages the rows of a line's words and n-grams and multiplies the mean with a row per label. The difference
of two labels' logits is linear in those rows, so it is the mean of one number per word and n-gram: the product of its
row with the difference of the labels' rows. Numbers are made once, and a line costs a look-up per word instead of a
vector. fastText's own predict gives the same up to its rounding (tested); it also adds 1e-5 to each probability, which
is left out here, so that pages near 0 and 1 are told apart.
"""

from collections.abc import Sequence

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.filtering.fasttext_file import FastTextModel

END_OF_LINE = b"</s>"
"""The word that the end of a line counts as."""


class LinearModel:
    """Numbers of words and n-grams whose mean is a line's logit: log P(first label) - log P(second label)."""

    def __init__(self, model: FastTextModel, first: bytes, second: bytes) -> None:
        from ppl_assets.filtering.ngram_kernels import word_table

        direction_F = np.subtract(*(model.output_LF[model.labels.index(label)] for label in (first, second)))
        self.words, self.word_ngrams = model.words, model.word_ngrams
        # float32 keeps twice as many in the processor's cache; its rounding is that of the rows themselves.
        self.weight_R = np.einsum("rf,f->r", model.input_RF, direction_F, dtype=np.float64).astype(np.float32)
        if not np.isfinite(self.weight_R).all():
            raise ValueError("found weights that are not finite")
        self._letter_C = np.frombuffer(b"".join(self.words), np.uint8)
        self._start_V = np.concatenate([[0], np.cumsum([len(word) for word in self.words], dtype=np.int64)])
        # At most half of the slots are taken.
        n_slots = 1 << (2 * len(self.words)).bit_length()
        self._word_S, self._hash_V = word_table(self._letter_C, self._start_V, n_slots)

    def logits(self, lines: Sequence[bytes]) -> np.ndarray:
        """The logit of each line, float64.

        Raises:
            InputError: a line has not one newline, at its end, as `Normalization.line` makes it.
        """
        from ppl_assets.filtering.ngram_kernels import line_means

        joined, mean_L = b"".join(lines), np.zeros(len(lines))
        # Compiled code writes a mean per newline, and asks nobody whether there is room.
        ends = joined.count(b"\n")
        if ends != len(lines):
            raise InputError(
                f"page filter: found {ends} newlines in {len(lines)} lines, expected one at the end of each"
            )
        line_means(
            np.frombuffer(joined, np.uint8),
            np.frombuffer(END_OF_LINE, np.uint8),
            self._letter_C,
            self._start_V,
            self._hash_V,
            self._word_S,
            self.weight_R,
            self.word_ngrams,
            mean_L,
        )
        return mean_L
