"""How well a model's rank on a target is predicted from losses by models of other families only.

Quantity: predicted mid-rank (1 = lowest error) of each model, and R2 = 1 - squared error over the variance of the
ranks, next to three baselines: the pool's mean loss, model size, and the leading principal components of the ranked
losses. Each family is held out in turn: domains are chosen, and the line from predictor to rank fitted, on the other
families.

Losses of a held-out model are ranked among all models, which uses its losses, never its errors. R2 can be negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppl_assets.estimation.domain_scores import mean_loss, point_estimate
from ppl_assets.estimation.inputs import family_index, log_size, loss_matrix, single_target
from ppl_assets.estimation.rank_correlation import centred_ranks
from ppl_assets.estimation.scores import Estimator, check_estimator

COMPONENTS = 3  # principal components of the baseline; more overfit a pool of 30 models


@dataclass(frozen=True, kw_only=True, eq=False)
class RankPrediction:
    """Per model, in the order given: `actual_rank`, `held_out_family`, and `predicted_rank` by predictor name.

    Predictors: ``ours`` (the mean loss over the domains of highest estimate), ``mean_loss``, ``pca``, and ``size``
    where parameters are known. `r2` has the same keys.
    """

    models: tuple[str, ...]
    held_out_family: tuple[str, ...]
    actual_rank: np.ndarray
    predicted_rank: dict[str, np.ndarray]
    r2: dict[str, float]

    @property
    def delta_r2(self) -> float:
        """What choosing domains gains over the mean loss of all."""
        return self.r2["ours"] - self.r2["mean_loss"]


def rank_prediction(
    bpb_MD: np.ndarray,
    error_M: np.ndarray,
    *,
    families: Sequence[str],
    models: Sequence[str] | None = None,
    params: np.ndarray | None = None,
    estimator: Estimator = "gls",
    top_share: float = 0.10,
) -> RankPrediction:
    """Leave-one-family-out predictions of every model's rank; arguments as in `estimate_domains`.

    Raises:
        InputError: as `estimate_domains`.
    """
    check_estimator(estimator)
    x_MD = loss_matrix(bpb_MD, models=models)
    y_M = single_target(error_M, len(x_MD), models=models)
    family_M = family_index(families, len(x_MD))
    score_MD = _scores(x_MD)
    rank_M = _centred(y_M)
    fixed = {"mean_loss": mean_loss(x_MD)[:, None], "pca": _components(score_MD)}
    if params is not None:
        fixed["size"] = _filled(log_size(params, len(x_MD)))[:, None]
    predicted = {name: np.empty(len(x_MD)) for name in ("ours", *fixed)}
    for held_out in range(family_M.max() + 1):
        train = family_M != held_out
        predictors = {"ours": _top_loss(x_MD, score_MD, y_M, train, top_share, estimator)[:, None], **fixed}
        for name, values in predictors.items():
            predicted[name][~train] = _line(values[train], rank_M[train], values[~train])
    variance = (rank_M**2).sum()
    return RankPrediction(
        models=tuple(models) if models is not None else tuple(str(k) for k in range(len(x_MD))),
        held_out_family=tuple(str(family) for family in families),
        actual_rank=_one_based(rank_M),
        predicted_rank={name: _one_based(values) for name, values in predicted.items()},
        r2={name: float(1 - ((values - rank_M) ** 2).sum() / variance) for name, values in predicted.items()},
    )


def _scores(x_MD: np.ndarray) -> np.ndarray:
    """Mid-ranks of each column scaled to -1..1, NaN where missing."""
    n_D = np.maximum((~np.isnan(x_MD)).sum(axis=0), 1).astype(np.float32)
    return np.where(np.isnan(x_MD), np.float32(np.nan), centred_ranks(x_MD) / n_D)


def _centred(y_M: np.ndarray) -> np.ndarray:
    return np.sign(y_M[:, None] - y_M[None, :]).sum(axis=1)


def _one_based(rank_M: np.ndarray) -> np.ndarray:
    """Centred double mid-ranks as ordinary ranks, 1 for the lowest; predictions keep their fractions, within 1..M."""
    return np.clip((rank_M + len(rank_M) + 1) / 2, 1, len(rank_M))


def _top_loss(
    x_MD: np.ndarray, score_MD: np.ndarray, y_M: np.ndarray, train: np.ndarray, top_share: float, estimator: Estimator
) -> np.ndarray:
    """Mean score of every model over the domains that correlate best with the target in the training families."""
    rho_D = np.nan_to_num(point_estimate(x_MD[train], y_M[train], estimator), nan=-np.inf)
    places = max(1, round(top_share * len(rho_D)))
    chosen = np.argpartition(-rho_D, places - 1)[:places]
    counted = (~np.isnan(score_MD[:, chosen])).sum(axis=1)
    return np.nansum(score_MD[:, chosen], axis=1) / np.maximum(counted, 1)


def _components(score_MD: np.ndarray) -> np.ndarray:
    """Leading principal components of the scores, missing ones at their column's middle."""
    filled = np.nan_to_num(score_MD).astype(np.float64)
    filled -= filled.mean(axis=0)
    value, vector = np.linalg.eigh(filled @ filled.T)
    return vector[:, ::-1][:, :COMPONENTS] * np.sqrt(np.maximum(value[::-1][:COMPONENTS], 0))


def _filled(log_M: np.ndarray) -> np.ndarray:
    """Unknown sizes at the mean of the known ones."""
    known = ~np.isnan(log_M)
    return np.where(known, log_M, log_M[known].mean() if known.any() else 0.0)


def _line(x: np.ndarray, y: np.ndarray, x_new: np.ndarray) -> np.ndarray:
    """Least-squares prediction; the minimum-norm one where predictors do not vary."""
    centre = x.mean(axis=0)
    slope = np.linalg.lstsq(x - centre, y - y.mean(), rcond=1e-10)[0]
    return y.mean() + (x_new - centre) @ slope
