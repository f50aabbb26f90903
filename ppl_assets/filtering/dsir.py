"""Data selection by importance resampling: pages drawn in proportion to how much likelier their words are in a target.

A page is a bag of words and word pairs, hashed into 10,000 buckets. Its log weight is the sum, over its n-grams, of log
p(bucket | target) - log p(bucket | pool); with Gumbel noise added, the largest are a sample without replacement in
proportion to the weights. The noise is a function of the page's id and the seed, so that pages are scored one by one.

Source: Xie, Santurkar, Ma, Liang (arXiv 2302.03169) and their package ``data-selection`` 1.0.3: the same words, hash,
smoothing and least length, and so the same log weights. One deviation: the pool is a sample of its domains, in which a
page counts for the tokens that it stands for.
"""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from ppl_assets.corpus.splits import seeded_hash
from ppl_assets.warehouse import replace_file

BUCKETS = 10_000
_SMOOTHING = 1e-8
_LEAST_WORDS = 100
_WORDS = re.compile(r"\w+|[^\w\s]+")
_HASH_SIZE = 2.0**63


@dataclass(frozen=True, slots=True)
class ImportanceWeights:
    """Log ratio of each bucket's probability, target over pool: (BUCKETS,)."""

    log_ratio_B: np.ndarray

    @classmethod
    def fit(cls, target: Iterable[str], pool: Iterable[str], pool_weight_P: Sequence[float]) -> "ImportanceWeights":
        """From texts of the target, and texts of the pool with how often each counts."""
        target_B = sum((_bag(text) for text in target), np.zeros(BUCKETS))
        pool_B = np.zeros(BUCKETS)
        for text, weight in zip(pool, pool_weight_P, strict=True):
            pool_B += weight * _bag(text)
        return cls(np.log(target_B / target_B.sum() + _SMOOTHING) - np.log(pool_B / pool_B.sum() + _SMOOTHING))

    @classmethod
    def load(cls, path: Path) -> "ImportanceWeights":
        """Those that a file holds."""
        return cls(np.load(path, allow_pickle=False))

    def save(self, path: Path) -> Path:
        """Write them to a file, whole or not at all; returns its path."""
        buffer = io.BytesIO()
        np.save(buffer, self.log_ratio_B, allow_pickle=False)
        replace_file(path, buffer.getbuffer())
        return path

    def log_weight(self, text: str) -> float:
        """Log importance weight of a text; NaN where it has fewer than 100 words, of which little can be said."""
        words = _words(text)
        if len(words) < _LEAST_WORDS:
            return float("nan")
        buckets, counts = _hashed(words)
        return float(self.log_ratio_B[buckets] @ counts)

    def scores(self, page_ids: Sequence[str], texts: Sequence[str], seed: int) -> np.ndarray:
        """Log weights with the pages' Gumbel noise: the largest are the sample."""
        noise = (gumbel(page_id, seed) for page_id in page_ids)
        return np.array([self.log_weight(text) + each for text, each in zip(texts, noise, strict=True)])


def gumbel(page_id: str, seed: int) -> float:
    """A page's own draw from the Gumbel distribution."""
    uniform = (seeded_hash(page_id, seed, "dsir") + 0.5) / _HASH_SIZE
    # The largest hash rounds up to 1, where the quantile is infinite.
    return float(-np.log(-np.log(min(uniform, 1 - 2.0**-53))))


def _bag(text: str) -> np.ndarray:
    buckets, counts = _hashed(_words(text))
    return np.bincount(buckets, counts, minlength=BUCKETS)


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.lower())


def _hashed(words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Buckets of the distinct words and word pairs, and how often each stands in the text."""
    ngrams = Counter(words) + Counter(f"{first} {second}" for first, second in pairwise(words))
    return np.fromiter(map(_bucket, ngrams), dtype=np.int64), np.fromiter(ngrams.values(), dtype=np.float64)


@lru_cache(maxsize=1 << 18)
def _bucket(ngram: str) -> int:
    # Half of a surrogate pair, which a source never holds, would be no reason to stop.
    return int.from_bytes(hashlib.sha256(ngram.encode("utf-8", "replace")).digest()) % BUCKETS
