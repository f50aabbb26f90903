"""Scores of ranks: how much each model's place in a column of losses counts.

Quantity: ``J(u)`` at ``u = (mid-rank - 1/2) / n``, the share of models with a lower loss. ``spearman`` takes u itself,
``normal`` the quantiles of the normal law. ``gumbel`` takes the quantiles of the smallest extreme value, ``log(-log(1
- u))``: they tell apart the models with the lowest losses on a text and hardly those with the highest. A model that
trained on a kind of text stands out by a low loss there; the models that did not are high for reasons that have
nothing to do with the text. Scores are functions of mid-ranks alone, so ties and strictly increasing transforms of the
losses are handled as in Spearman's rho.

Why ``gumbel`` rather than plain ranks is measured in docs/estimation.md: against known causal effects its estimates
rank domains better, and in simulated worlds of Gaussian losses, where plain ranks are near their best, no worse.
"""

from functools import lru_cache
from typing import Literal

import numpy as np

from ppl_assets.errors import InputError, suggestion

Score = Literal["gumbel", "spearman", "normal"]
Estimator = Score | Literal["gls"]
ESTIMATORS: tuple[Estimator, ...] = ("gls", "gumbel", "spearman", "normal")


def check_estimator(estimator: str) -> None:
    """Refuse an estimator that does not exist, naming the nearest one that does."""
    if estimator not in ESTIMATORS:
        near = suggestion(estimator, ESTIMATORS)
        raise InputError(f"estimator: found {estimator!r}, expected one of {', '.join(ESTIMATORS)}{near}")


def scores(u: np.ndarray, score: Score) -> np.ndarray:
    """``J(u)`` for shares u strictly between 0 and 1."""
    if score == "normal":
        from scipy.special import ndtri

        return ndtri(u)
    return np.log(-np.log1p(-u)) if score == "gumbel" else u


@lru_cache(maxsize=8)
def score_table(n_most: int, score: Score) -> np.ndarray:
    """Row n holds ``J(h / 2n)`` at column h, twice the mid-rank minus 1: every score of a column of up to `n_most`
    models.

    Columns that n models cannot reach hold 0. float32: a table for 700 models takes 4 MB.
    """
    n = np.arange(n_most + 1)[:, None]
    h = np.arange(2 * n_most)[None, :]
    inside = (h >= 1) & (h < 2 * n)
    table = np.where(inside, scores(np.where(inside, h, 1) / np.maximum(2 * n, 2), score), 0)
    return table.astype(np.float32)


def column_scores(rank_MD: np.ndarray, present_MD: np.ndarray | None, score: Score) -> np.ndarray:
    """Scores of centred double mid-ranks, with mean 0 over the models each column has and 0 for the others; float64."""
    n_D = np.full(rank_MD.shape[1], len(rank_MD)) if present_MD is None else present_MD.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        u_MD = (rank_MD.astype(np.float64) + n_D) / (2 * n_D)
    if present_MD is None:
        score_MD = scores(u_MD, score)
        return score_MD - score_MD.mean(axis=0)
    score_MD = np.where(present_MD, scores(np.where(present_MD, u_MD, 0.5), score), 0)
    return np.where(present_MD, score_MD - score_MD.sum(axis=0) / np.maximum(n_D, 1), 0)
