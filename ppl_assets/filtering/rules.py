"""Hand-written rules for pages: length, share of symbols, repetition, as web corpora have long been cleaned by.

Source: Rae et al., "Scaling Language Models" (Gopher, arXiv 2112.11446), appendix A1.1 and table A1. Left out are the
rule for stop words, which knows English only, and repetition of n-grams of five and more words, which costs most. The
rules were written for English prose; code breaks some of them by its nature.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

_WORDS = (50, 100_000)
_MEAN_WORD_LENGTH = (3.0, 10.0)
_MOST_SYMBOLS_PER_WORD = 0.1
_MOST_BULLET_LINES, _MOST_ELLIPSIS_LINES = 0.9, 0.3
_LEAST_ALPHABETIC_WORDS = 0.8
_MOST_DUPLICATE_LINES, _MOST_DUPLICATE_LINE_CHARACTERS = 0.3, 0.2
# Largest share of a page's characters in its most frequent n-gram.
_MOST_IN_TOP_NGRAM = {2: 0.2, 3: 0.18, 4: 0.16}
_LETTER = re.compile(r"[^\W\d_]")
_BULLETS = ("•", "‣", "*", "-", "–", "·")


def broken_rule(text: str) -> str | None:
    """The first rule that a page breaks; None where it keeps them all."""
    words = text.split()
    if not _WORDS[0] <= len(words) <= _WORDS[1]:
        return "length"
    if not _MEAN_WORD_LENGTH[0] <= sum(map(len, words)) / len(words) <= _MEAN_WORD_LENGTH[1]:
        return "word length"
    if (text.count("#") + text.count("...") + text.count("…")) / len(words) > _MOST_SYMBOLS_PER_WORD:
        return "symbols"
    if sum(_LETTER.search(word) is not None for word in words) / len(words) < _LEAST_ALPHABETIC_WORDS:
        return "words without letters"
    return _broken_by_lines(text) or _broken_by_repetition(words)


def scores(texts: Sequence[str]) -> np.ndarray:
    """1 for a page that keeps the rules, NaN for one that does not: rules choose, they do not rank."""
    return np.array([1.0 if broken_rule(text) is None else np.nan for text in texts])


def _broken_by_lines(text: str) -> str | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if sum(line.startswith(_BULLETS) for line in lines) / len(lines) > _MOST_BULLET_LINES:
        return "bullet points"
    if sum(line.endswith(("...", "…")) for line in lines) / len(lines) > _MOST_ELLIPSIS_LINES:
        return "ellipses"
    repeated = {line: count - 1 for line, count in Counter(lines).items() if count > 1}
    if sum(repeated.values()) / len(lines) > _MOST_DUPLICATE_LINES:
        return "repeated lines"
    characters = sum(len(line) * count for line, count in repeated.items())
    return "repeated lines" if characters / len(text) > _MOST_DUPLICATE_LINE_CHARACTERS else None


def _broken_by_repetition(words: list[str]) -> str | None:
    characters = sum(map(len, words))
    for size, most in _MOST_IN_TOP_NGRAM.items():
        ngrams = Counter(zip(*(words[start:] for start in range(size)), strict=False))
        ngram, count = max(ngrams.items(), key=lambda item: item[1])
        if count > 1 and count * sum(map(len, ngram)) / characters > most:
            return "repeated n-grams"
    return None
