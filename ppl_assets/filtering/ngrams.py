"""Which words and word pairs decide a classifier's score.

The logit of a page is the mean, over its words and word pairs, of one number each: the row of the input matrix times
the difference of the two rows of the output matrix. So the influence of an n-gram on the scores of some pages is exact:
its number times its share of a page's n-grams, averaged over the pages. fastText keeps only hashes of word pairs; the
same hash is computed here (dictionary.cc), and pairs that share a bucket share its number.
"""

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ppl_assets.filtering.classifier import EXCLUDE, INCLUDE, Classifier

_END = "</s>"
_PAIR_FACTOR = 116049371  # dictionary.cc, addWordNgrams
_WRAP = 2**64


def influences(classifier: Classifier, texts: Sequence[str]) -> dict[str, float]:
    """By how much each word and word pair moves the mean logit of the texts; they sum to that mean."""
    weight = _Weights(classifier)
    total: Counter[str] = Counter()
    for text in texts:
        counts = _known(_words(classifier, text), weight)
        size = sum(counts.values())
        total.update({ngram: count / size for ngram, count in counts.items()})
    return {ngram: share * weight(ngram) / len(texts) for ngram, share in total.items()}


def deciding(influence: dict[str, float], number: int) -> dict[str, float]:
    """The `number` n-grams that speak most for a page and the `number` that speak most against it, strongest first."""
    order = sorted(influence, key=lambda ngram: (influence[ngram], ngram))
    chosen = [*order[::-1][:number], *order[:number]]
    return {ngram: influence[ngram] for ngram in dict.fromkeys(chosen)}


def _words(classifier: Classifier, text: str) -> list[str]:
    """Words as fastText reads them: between spaces, and the end of the line as a word."""
    line = classifier.normalization.line(text).decode("utf-8")
    return [*(word for word in line.rstrip("\n").split(" ") if word), _END]


def _known(words: list[str], weight: "_Weights") -> Counter[str]:
    """How often each n-gram that has a number stands in a page: words of the vocabulary, and all pairs."""
    counts = Counter(word for word in words if weight.knows(word))
    if weight.pairs:
        counts.update(f"{first} {second}" for first, second in itertools.pairwise(words))
    return counts


class _Weights:
    """The number of each n-gram, computed once."""

    def __init__(self, classifier: Classifier) -> None:
        model = classifier.model
        names, output_LE = model.labels, model.get_output_matrix()
        self._direction_E = output_LE[names.index(INCLUDE)] - output_LE[names.index(EXCLUDE)]
        self._model = model
        self._vocabulary = set(model.words)
        settings = model.f.getArgs()
        self._buckets, self.pairs = settings.bucket, settings.wordNgrams >= 2
        self._hashes: dict[str, int] = {}
        self._numbers: dict[str, float] = {}

    def knows(self, word: str) -> bool:
        """Whether a word is in the vocabulary; of others only their pairs count."""
        return word in self._vocabulary

    def __call__(self, ngram: str) -> float:
        if ngram not in self._numbers:
            row_E = np.asarray(self._model.get_input_vector(self._row(ngram)))
            self._numbers[ngram] = float(row_E @ self._direction_E)
        return self._numbers[ngram]

    def _row(self, ngram: str) -> int:
        first, pair, second = ngram.partition(" ")
        if not pair:
            return int(self._model.get_word_id(first))
        mixed = (self._hash(first) * _PAIR_FACTOR + self._hash(second)) % _WRAP
        return len(self._vocabulary) + mixed % self._buckets

    def _hash(self, word: str) -> int:
        """FNV-1a over signed bytes, sign-extended to 64 bits as the C++ conversion does."""
        if word not in self._hashes:
            value = 2166136261
            for byte in word.encode("utf-8"):
                value = ((value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
            self._hashes[word] = value if value < 2**31 else value - 2**32 + _WRAP
        return self._hashes[word]
