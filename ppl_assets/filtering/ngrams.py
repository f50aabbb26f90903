"""Which words and runs of words decide a classifier's score.

The logit of a page is the mean of one number per word and n-gram (`linear_model`). So the influence of an n-gram on the
scores of some pages is exact: its number times its share of a page's n-grams, averaged over the pages. fastText keeps
only hashes of n-grams, and those that share a bucket share its number.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ppl_assets.filtering.classifier import Classifier
from ppl_assets.filtering.linear_model import END_OF_LINE


def influences(classifier: Classifier, texts: Sequence[str]) -> dict[str, float]:
    """By how much each word and n-gram moves the mean logit of the texts; they sum to that mean."""
    weight = _Weights(classifier)
    total: Counter[bytes] = Counter()
    for text in texts:
        counts = Counter(_known(classifier.normalization.line(text), weight))
        size = sum(counts.values())
        total.update({ngram: count / size for ngram, count in counts.items()})
    return {ngram.decode("utf-8"): share * weight(ngram) / len(texts) for ngram, share in total.items()}


def deciding(influence: dict[str, float], number: int) -> dict[str, float]:
    """The `number` n-grams that speak most for a page and the `number` that speak most against it, strongest first."""
    order = sorted(influence, key=lambda ngram: (influence[ngram], ngram))
    chosen = [*order[::-1][:number], *order[:number]]
    return {ngram: influence[ngram] for ngram in dict.fromkeys(chosen)}


def _known(line: bytes, weight: "_Weights") -> list[bytes]:
    """Every n-gram of a line that has a number: words of the vocabulary, and all runs of words."""
    words = [*(word for word in line.rstrip(b"\n").split(b" ") if word), END_OF_LINE]
    runs = [
        b" ".join(words[first : first + size])
        for size in range(2, weight.word_ngrams + 1)
        for first in range(len(words) - size + 1)
    ]
    return [*filter(weight.knows, words), *runs]


class _Weights:
    """The number of each n-gram, computed once."""

    def __init__(self, classifier: Classifier) -> None:
        self._weight_R = classifier.model.weight_R
        self._row = {word: row for row, word in enumerate(classifier.model.words)}
        self._n_words = len(self._row)
        self.word_ngrams = classifier.model.word_ngrams

    def knows(self, word: bytes) -> bool:
        """Whether a word is in the vocabulary; of others only their n-grams count."""
        return word in self._row

    def __call__(self, ngram: bytes) -> float:
        if ngram not in self._row:
            self._row[ngram] = self._bucket(ngram)
        return float(self._weight_R[self._row[ngram]])

    def _bucket(self, ngram: bytes) -> int:
        from ppl_assets.filtering.ngram_kernels import ngram_bucket, word_hash

        hash_H = np.array([word_hash(np.frombuffer(word, np.uint8)) for word in ngram.split(b" ")], np.uint32)
        return self._n_words + int(ngram_bucket(hash_H, len(self._weight_R) - self._n_words))
