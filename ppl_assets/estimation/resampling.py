"""Resampling of model families: checkpoints of a run and sizes of a recipe are not independent, families nearly are.

A replicate is a column of model weights: how often the model's family was drawn (bootstrap), or whether it is in the
half (complementary pairs, Shah and Samworth, JRSS-B 75, 2013), or in what remains without one family (jackknife).
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ppl_assets.estimation.gls_correlation import replicate_gls
from ppl_assets.estimation.scores import Estimator, Score, score_table

COLUMNS = 256  # columns per block of replicates: 1 MB of float32 for 1,000 replicates


def bootstrap_weights(family_M: np.ndarray, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Families drawn with replacement, as many as there are: M x R float32, equal within a family."""
    n_families = int(family_M.max()) + 1
    drawn_RF = rng.multinomial(n_families, np.full(n_families, 1 / n_families), size=replicates)
    return np.ascontiguousarray(drawn_RF.T[family_M], dtype=np.float32)


def half_weights(family_M: np.ndarray, pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Complementary halves of the families: M x 2 x pairs float32 of 0 and 1; [:, 0] and [:, 1] split the families."""
    n_families = int(family_M.max()) + 1
    position_PF = rng.permuted(np.tile(np.arange(n_families), (pairs, 1)), axis=1)
    # With an odd count the larger half alternates, so that neither side is favoured.
    cut_P = (n_families + np.arange(pairs) % 2) // 2
    first_MP = (position_PF < cut_P[:, None]).T[family_M]
    return np.stack([first_MP, ~first_MP], axis=1).astype(np.float32)


def jackknife_weights(family_M: np.ndarray) -> np.ndarray:
    """All models but those of one family, for every family: M x F float32 of 0 and 1."""
    return (family_M[:, None] != np.arange(family_M.max() + 1)[None, :]).astype(np.float32)


def replicates_of(
    x_MD: np.ndarray, y_M: np.ndarray, weight_MR: np.ndarray, estimator: Estimator
) -> Iterator[np.ndarray]:
    """The estimate of every column for one target in every replicate, by blocks of columns: D x R."""
    if estimator == "gls":
        yield from replicate_gls(x_MD, y_M, weight_MR)
        return
    for _, rho_TDR, _ in replicate_correlations(x_MD, y_M[None], weight_MR, estimator):
        yield rho_TDR[0]


def replicate_correlations(
    x_MD: np.ndarray, y_TM: np.ndarray, weight_MR: np.ndarray, score: Score
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """The correlation of every column with every target in every replicate: (columns, rho T x D x R, cross T x D x R).

    `cross` is the rank correlation of each target with the first, over the models that the column has. Ranks are taken
    anew in each replicate, as resampling the models would. Weights are whole numbers.
    """
    from ppl_assets.estimation.rank_kernels import replicate_block

    weight_MR = np.ascontiguousarray(weight_MR, dtype=np.float32)
    table = score_table(int(weight_MR.sum(axis=0).max()), score)

    def correlate(block: slice) -> tuple[slice, np.ndarray, np.ndarray]:
        x = np.ascontiguousarray(x_MD[:, block])
        order_DM = np.ascontiguousarray(np.argsort(x, axis=0, kind="stable").T)
        rho_TDR = np.empty((len(y_TM), x.shape[1], weight_MR.shape[1]), np.float32)
        cross_TDR = np.empty_like(rho_TDR)
        replicate_block(x, order_DM, y_TM, weight_MR, table, rho_TDR, cross_TDR)
        return block, rho_TDR, cross_TDR

    blocks = [slice(start, start + COLUMNS) for start in range(0, x_MD.shape[1], COLUMNS)]
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        # A few blocks at a time: results are large and are used up in order. The kernel runs without the GIL.
        for first in range(0, len(blocks), workers):
            yield from pool.map(correlate, blocks[first : first + workers])
