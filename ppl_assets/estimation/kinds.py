"""Public models and probes side by side: estimates within each kind, and combined by what predicts held-out families.

Public models and probes live at different levels of loss and error, so ranks are taken within a kind, never across. The
combined estimate of a domain is ``tanh(w z_probe + (1 - w) z_public)`` with Fisher's z; w is the weight in 0, 0.1, ...
1 whose top domains best predict the within-kind ranks of families left out in turn (both kinds alike; ties go to the
middle weight). It does not know whether what holds for small probes holds for large models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.estimation.domain_scores import centred_scores, fisher, point_estimate
from ppl_assets.estimation.inputs import MIN_MODELS, family_index, loss_matrix, single_target
from ppl_assets.estimation.scores import Estimator, check_estimator

WEIGHTS = np.linspace(0, 1, 11)


@dataclass(frozen=True, kw_only=True, eq=False)
class KindEstimates:
    """`by_kind`: estimates within each kind; `combined` with the `weight` of each kind; held-out `r2` at it."""

    by_kind: dict[str, np.ndarray]
    combined: np.ndarray
    weight: dict[str, float]
    r2: float


def estimate_by_kind(
    bpb_MD: np.ndarray,
    error_M: np.ndarray,
    *,
    kinds: Sequence[str],
    families: Sequence[str],
    estimator: Estimator = "gls",
    top_share: float = 0.10,
) -> KindEstimates:
    """Estimates for one target within each of one or two kinds of models, and their combination.

    Raises:
        InputError: as `estimate_domains`; more than two kinds; a kind with fewer than 3 models or 2 families.
    """
    check_estimator(estimator)
    x_MD = loss_matrix(bpb_MD)
    y_M = single_target(error_M, len(x_MD), models=None)
    names, kind_M = np.unique([str(kind) for kind in kinds], return_inverse=True)
    if len(kind_M) != len(x_MD) or len(names) > 2:
        raise InputError(f"kinds: found {len(kind_M)} labels of {len(names)} kinds, expected {len(x_MD)} of 1 or 2")
    for index, name in enumerate(names):
        if (kind_M == index).sum() < MIN_MODELS or len(
            {f for f, k in zip(families, kind_M, strict=True) if k == index}
        ) < 2:
            raise InputError(
                f"kinds: found too few models or families of kind {name!r}, expected 3 models of 2 families"
            )
    family_M = family_index(families, len(x_MD))
    z_KD = _by_kind(x_MD, y_M, kind_M, estimator)
    weight, r2 = (
        (1.0, float("nan")) if len(names) == 1 else _best_weight(x_MD, y_M, kind_M, family_M, estimator, top_share)
    )
    weight_K = np.array([1 - weight, weight])[-len(names) :]
    return KindEstimates(
        by_kind={name: np.tanh(z_D) for name, z_D in zip(names.tolist(), z_KD, strict=True)},
        combined=np.tanh(_combine(z_KD, weight_K)),
        weight=dict(zip(names.tolist(), weight_K.tolist(), strict=True)),
        r2=r2,
    )


def _by_kind(x_MD: np.ndarray, y_M: np.ndarray, kind_M: np.ndarray, estimator: Estimator) -> np.ndarray:
    """Fisher's z of the estimates within each kind; NaN where undefined."""
    z_KD = []
    for kind in range(kind_M.max() + 1):
        x, y = x_MD[kind_M == kind], y_M[kind_M == kind]
        z_KD.append(fisher(point_estimate(x, y, estimator)))
    return np.array(z_KD)


def _combine(z_KD: np.ndarray, weight_K: np.ndarray) -> np.ndarray:
    """Weighted mean over the kinds that know a domain."""
    weight_KD = np.where(np.isnan(z_KD), 0, weight_K[:, None])
    total_D = weight_KD.sum(axis=0)
    return np.where(
        total_D > 0, (np.nan_to_num(z_KD) * weight_KD).sum(axis=0) / np.where(total_D > 0, total_D, 1), np.nan
    )


def _best_weight(
    x_MD: np.ndarray, y_M: np.ndarray, kind_M: np.ndarray, family_M: np.ndarray, estimator: Estimator, top_share: float
) -> tuple[float, float]:
    """The weight of the second kind that predicts left-out families best, and its R2."""
    score_MD, rank_M = np.empty(x_MD.shape), np.empty(len(x_MD))
    for kind in range(2):
        inside = kind_M == kind
        score_MD[inside] = centred_scores(x_MD[inside], "normal")
        rank_M[inside] = centred_scores(y_M[inside, None], "normal")[:, 0]
    places = max(1, round(top_share * x_MD.shape[1]))
    predicted_WM = np.empty((len(WEIGHTS), len(x_MD)))
    for held_out in range(family_M.max() + 1):
        train = family_M != held_out
        z_KD = _by_kind(x_MD[train], y_M[train], kind_M[train], estimator)
        for w, weight in enumerate(WEIGHTS):
            combined = np.nan_to_num(_combine(z_KD, np.array([1 - weight, weight])), nan=-np.inf)
            top = np.argpartition(-combined, places - 1)[:places]
            predicted_WM[w, ~train] = score_MD[~train][:, top].mean(axis=1)
    error_W = ((predicted_WM - rank_M) ** 2).sum(axis=1)
    best = np.flatnonzero(error_W <= error_W.min() * (1 + 1e-9))
    at = best[np.argmin(np.abs(WEIGHTS[best] - 0.5))]
    return float(WEIGHTS[at]), float(1 - error_W[at] / (rank_M**2).sum())
