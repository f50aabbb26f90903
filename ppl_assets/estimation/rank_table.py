"""Ranks of losses that are kept, so that a model comes or goes without ranking or scoring the others again.

Quantity: centred double mid-ranks per text (`centred_ranks`), int16. Adding model m changes ``r_k`` by sign(x_k - x_m)
and gives ``r_m = -sum_k sign(x_k - x_m)``: M x D comparisons instead of M^2 x D. All is exact in integers, so that any
order of additions and removals gives the ranks that ranking anew would.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppl_assets.errors import InputError, suggestion
from ppl_assets.estimation.domain_scores import cosine, point_estimate
from ppl_assets.estimation.inputs import errors_by_target, keys, loss_matrix
from ppl_assets.estimation.rank_correlation import centred_ranks, target_ranks
from ppl_assets.estimation.scores import Estimator, column_scores


@dataclass(frozen=True, kw_only=True, eq=False)
class RankTable:
    """Losses and their ranks by model; a new table for every change, which shares nothing that can be written to."""

    models: tuple[str, ...]
    loss_MD: np.ndarray
    rank_MD: np.ndarray

    @classmethod
    def of(cls, bpb_MD: np.ndarray, models: Sequence[str]) -> "RankTable":
        """Rank a pool for the first time."""
        loss_MD = loss_matrix(bpb_MD, models=models)
        return cls(models=tuple(models), loss_MD=loss_MD, rank_MD=centred_ranks(loss_MD).astype(np.int16))

    def add(self, model: str, bpb_D: np.ndarray) -> "RankTable":
        """The table with one more model, whose losses may have gaps (NaN).

        Raises:
            InputError: a model that is there already, a wrong number of losses, or an infinite one.
        """
        keys("model", [*self.models, model], len(self.models) + 1)
        row_D = np.asarray(bpb_D, dtype=self.loss_MD.dtype)
        if row_D.shape != self.loss_MD.shape[1:] or np.isinf(row_D).any():
            raise InputError(
                f"model {model!r}: found losses of shape {row_D.shape}, expected {self.loss_MD.shape[1:]} without inf"
            )
        step_MD = _compared(self.loss_MD, row_D)
        return RankTable(
            models=(*self.models, model),
            loss_MD=np.vstack([self.loss_MD, row_D]),
            rank_MD=np.vstack([self.rank_MD + step_MD, -step_MD.sum(axis=0, dtype=np.int16)]),
        )

    def remove(self, model: str) -> "RankTable":
        """The table without one of its models."""
        if model not in self.models:
            raise InputError(f"found no model {model!r} in the table{suggestion(model, self.models)}")
        at = self.models.index(model)
        rest = np.arange(len(self.models)) != at
        return RankTable(
            models=self.models[:at] + self.models[at + 1 :],
            loss_MD=self.loss_MD[rest],
            rank_MD=self.rank_MD[rest] - _compared(self.loss_MD[rest], self.loss_MD[at]),
        )

    def estimate(self, error_M: np.ndarray, estimator: Estimator = "gls") -> np.ndarray:
        """Correlations of every text with one target, from the ranks kept where they suffice; NaN where undefined."""
        y_M = errors_by_target(error_M, len(self.models), models=self.models)[0]
        if estimator == "gls":
            return point_estimate(self.loss_MD, y_M, estimator)
        present_MD = ~np.isnan(self.loss_MD)
        whole = None if present_MD.all() else present_MD
        return cosine(column_scores(self.rank_MD, whole, estimator), target_ranks(y_M, whole))


def _compared(loss_MD: np.ndarray, row_D: np.ndarray) -> np.ndarray:
    """sign(x - row), 0 where either is missing."""
    return (loss_MD > row_D).astype(np.int16) - (loss_MD < row_D).astype(np.int16)
