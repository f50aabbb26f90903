"""Near duplicates: pages whose sets of word 5-grams have at least a given Jaccard similarity.

A word is a run of letters and digits, except in the scripts that put no space between words (Chinese, Japanese, Thai,
Lao, Khmer, Burmese): each of their characters is one. A run there is a sentence, and an edit of one character would
make five of a few n-grams other ones.

Candidates come from MinHash signatures in locality-sensitive buckets (Broder 1997; Leskovec, Rajaraman, Ullman, "Mining
of Massive Datasets", chapter 3), and each is checked against the true similarity, so none is dropped by chance. A pair
is missed with the probability (1 - s^r)^b for similarity s, b bands and r rows.
"""

import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

# Letters and vowel or tone signs of the scripts without spaces, and not their digits and punctuation.
_UNSPACED = (
    "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai
    "\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf"  # Lao
    "\u1780-\u17d3\u17d7\u17dc\u17dd"  # Khmer
    "\u1000-\u103f\u1050-\u108f\u109a-\u109d\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa76\uaa7a-\uaa7f"  # Burmese
)
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_SHINGLE_WORDS = 5
_PERMUTATIONS = 128
# Rows per band are the most for which a pair at the threshold is missed with at most this probability.
_MISSED = 1e-3


def shingles(text: str) -> np.ndarray:
    """Sorted 64-bit hashes of the word 5-grams, case folded; fewer words are one shingle, none are none."""
    words = np.fromiter((zlib.crc32(word.encode()) for word in _WORDS.findall(text.casefold())), dtype=np.uint64)
    length = min(_SHINGLE_WORDS, len(words))
    if length == 0:
        return words
    mixed = np.zeros(len(words) - length + 1, dtype=np.uint64)
    for offset in range(length):
        mixed = _mix(mixed + words[offset : offset + len(mixed)])
    return np.unique(mixed)


def near_duplicates(texts: Sequence[str], similarity: float) -> list[tuple[int, int, float]]:
    """For each text that goes, which one stays: (goes, stays, their Jaccard similarity).

    Texts come in order of priority: one stays unless it is a near duplicate of an earlier one that stays, so every text
    that goes has its likeness among those that stay.
    """
    kept, gone = _Index(similarity), []
    for number, text in enumerate(texts):
        likeness = next(kept.alike(number, text), None)
        if likeness:
            gone.append((number, *likeness))
        else:
            kept.insert()
    return gone


def near_duplicate_pairs(texts: Sequence[str], similarity: float) -> Iterator[tuple[int, int]]:
    """Every pair of texts that are near duplicates, the later one first."""
    index = _Index(similarity)
    for number, text in enumerate(texts):
        yield from ((number, other) for other, _ in index.alike(number, text))
        index.insert()


class _Index:
    """Texts in locality-sensitive buckets: ask for the likes of one, then insert it or not."""

    def __init__(self, similarity: float) -> None:
        from datasketch import MinHash, MinHashLSH

        rows = _rows_per_band(similarity)
        self._similarity = similarity
        self._buckets = MinHashLSH(num_perm=_PERMUTATIONS, params=(_PERMUTATIONS // rows, rows))
        self._empty = MinHash(num_perm=_PERMUTATIONS, hashfunc=int)
        self._shingles: dict[int, np.ndarray] = {}

    def alike(self, number: int, text: str) -> Iterator[tuple[int, float]]:
        """Inserted texts that `text` is a near duplicate of, with their similarity; a text without words has none."""
        found = shingles(text)
        signature = self._empty.copy()
        signature.update_batch(found >> np.uint64(32))
        self._asked = (number, found, signature)
        candidates = sorted(self._buckets.query(signature)) if len(found) else []
        return _alike(found, candidates, self._shingles, self._similarity)

    def insert(self) -> None:
        """Insert the text that was asked about last."""
        number, found, signature = self._asked
        if len(found):
            self._shingles[number] = found
            self._buckets.insert(number, signature)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Size of the intersection over size of the union of two sorted sets, neither empty."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def _alike(
    found: np.ndarray, candidates: Sequence[int], kept: dict[int, np.ndarray], similarity: float
) -> Iterator[tuple[int, float]]:
    """Candidates that are near duplicates, with their similarity; sizes alone rule many out."""
    for candidate in candidates:
        other = kept[candidate]
        if min(len(found), len(other)) >= similarity * max(len(found), len(other)):
            value = jaccard(found, other)
            if value >= similarity:
                yield candidate, value


def _rows_per_band(similarity: float) -> int:
    """Rows per band, as many as two bands and the allowed misses permit: more rows mean fewer false candidates."""
    chances = {rows: (1 - similarity**rows) ** (_PERMUTATIONS // rows) for rows in range(1, _PERMUTATIONS // 2 + 1)}
    return max([rows for rows, missed in chances.items() if missed <= _MISSED], default=1)


def _mix(values: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit numbers that spreads them (the finalizer of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(factor)
    return values ^ (values >> np.uint64(33))
