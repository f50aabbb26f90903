"""The compiled loop behind `overlap.run_hashes`: one multiplication per byte, where doubling runs takes six passes.

Importing this module loads numba, so others import it inside functions. Compiled code is kept on disk (``cache=True``).
Axis letters: B bytes, N runs.
"""

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def rolling_hashes(byte_B: np.ndarray, run: int, multiplier: np.uint64) -> np.ndarray:
    """The sum of byte x multiplier^(bytes after it in the run), modulo 2**64, of each `run` bytes; uint64, N."""
    hash_N = np.empty(max(len(byte_B) - run + 1, 0), np.uint64)
    gone = np.uint64(1)
    for _ in range(run):
        gone *= multiplier
    value = np.uint64(0)
    for place in range(len(byte_B)):
        entering = np.uint64(byte_B[place])
        if place >= run:
            entering -= gone * np.uint64(byte_B[place - run])
        value = value * multiplier + entering
        if place >= run - 1:
            hash_N[place - run + 1] = value
    return hash_N
