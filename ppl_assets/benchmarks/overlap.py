"""Whether a text shares a long run of bytes with any of many others: the check that keeps test text unseen.

Two texts overlap where some `RUN_BYTES` consecutive bytes of one stand in the other. 64 bytes are some 13 words of
English, the run that Brown et al. (arXiv 2005.14165, appendix C) count as contamination, and a long line of code. A
paraphrase or a reformatted copy is not found; near duplicates of whole pages are the corpus room's business.
"""

from collections.abc import Iterable

import numpy as np

RUN_BYTES = 64
"""Length of a shared run."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits without pattern: 2**64 / golden ratio
_TABLE_BITS = 22


def overlapping(texts: list[str], others: Iterable[str]) -> np.ndarray:
    """Which of `texts` share `RUN_BYTES` consecutive bytes with any of `others`: one boolean per text.

    Runs are compared by 64-bit hashes: an overlap is never missed, and found where there is none with probability
    below 1e-5 (1e5 runs against 1e9). A text shorter than `RUN_BYTES` overlaps nothing.
    """
    hashes = [run_hashes(text.encode()) for text in texts]
    runs_of_all = np.concatenate([*hashes, np.empty(0, np.uint64)])
    owners = np.repeat(np.arange(len(texts)), [len(runs) for runs in hashes])
    # Most runs of the others are dismissed by the first bits of their hash, without a search.
    shift = np.uint64(64 - _TABLE_BITS)
    table = np.zeros(1 << _TABLE_BITS, dtype=bool)
    table[runs_of_all >> shift] = True
    suspects = [runs[table[runs >> shift]] for runs in (run_hashes(other.encode()) for other in others)]
    shared = np.isin(runs_of_all, np.concatenate([*suspects, np.empty(0, np.uint64)]))
    overlaps = np.zeros(len(texts), dtype=bool)
    overlaps[owners[shared]] = True
    return overlaps


def run_hashes(data: bytes | memoryview) -> np.ndarray:
    """Polynomial hash modulo 2**64 of every run of `RUN_BYTES` bytes, uint64 of shape (bytes - RUN_BYTES + 1,)."""
    from ppl_assets.benchmarks.run_kernel import rolling_hashes

    return rolling_hashes(np.frombuffer(data, dtype=np.uint8), RUN_BYTES, _MULTIPLIER)
