"""Correlations between per-text losses and errors over models: the point estimates.

Estimand: how strongly the loss of a text and the error of a target rise and fall together over models. Inputs are bits
per byte (models x texts) and errors (lower is better); a high estimate marks text worth training on.

With ``c_k = #{l: y_l < y_k} - #{l: y_l > y_k}`` and ``r_k`` the same in a column of losses, every estimator here is a
sum over models: ``sign`` is 2 c.x / N(N-1), ``sign_cdf`` is c.r / N^2(N-1), ``spearmanr`` is c.r / (|c| |r|). So the
losses are ranked once, into one or two bytes each, and all targets share one matrix product.

Ties get mid-ranks, so that results do not depend on the order of models. A missing loss (NaN) leaves its model out of
that text alone (pairwise-complete; `model_counts` says how many remain). A constant column or target has no
correlation: NaN, with a warning. What these numbers do not know: how the models are related, and whether a text is any
better than the rest of the pool. `estimate_domains` adds both.

Sources: Thrush, Potts, Hashimoto, arXiv 2409.05816v2 (sign_cdf, sign_sign, spearmanr); Plan, Vershynin, Yudovina,
arXiv 1404.3749 (product); Chen, Banerjee, ICML 2017 (sign); Kendall, Biometrika 33, 1945 (tau-b).
"""

import warnings
from collections.abc import Callable

import numpy as np

from ppl_assets.estimation.inputs import errors_by_target, loss_matrix

BLOCK = 65_536  # columns at a time: 24 MB of float32 losses for 90 models


def product(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean of ``x_k y_k`` over models. Robust to outliers in neither; depends on units and offsets of both.

    Args:
        X: losses, models x texts, bits per byte; NaN where a loss is missing.
        y: errors, shape (models,) or (models, targets).

    Returns:
        Shape (texts,) or (texts, targets). NaN, with a warning, for constant columns and targets.

    Raises:
        InputError: shapes that do not fit, infinite losses, errors that are not finite, fewer than 3 models.
    """
    return _estimate(X, y, lambda x_MD, y_TM: _linear(x_MD, y_TM, pairwise=False))


def sign(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean over model pairs of ``sign(y_g - y_k) (x_g - x_k)``: robust to outliers in y only. See `product`."""
    return _estimate(X, y, lambda x_MD, y_TM: _linear(x_MD, y_TM, pairwise=True))


def sign_cdf(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean over pairs of ``sign(y_g - y_k) (F(x_g) - F(x_k))``, F the column's empirical distribution.

    Without ties it is `spearmanr` times (N + 1) / 3N. See `product` for arguments.
    """
    return _estimate(X, y, lambda x_MD, y_TM: _from_ranks(x_MD, y_TM, normalised=False))


def spearmanr(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rho of every text with every target, mid-ranks for ties. See `product` for arguments."""
    return _estimate(X, y, lambda x_MD, y_TM: _from_ranks(x_MD, y_TM, normalised=True))


def sign_sign(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean over pairs of ``sign(y_g - y_k) sign(x_g - x_k)``: Kendall's tau-a. See `product` for arguments."""
    return _estimate(X, y, lambda x_MD, y_TM: _from_pairs(x_MD, y_TM, tied_apart=False))


def kendall(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b: concordant minus discordant pairs over the geometric mean of pairs untied in x and in y."""
    return _estimate(X, y, lambda x_MD, y_TM: _from_pairs(x_MD, y_TM, tied_apart=True))


def model_counts(X: np.ndarray) -> np.ndarray:
    """Number of models with a loss for each text: the size of the sample behind each estimate."""
    return (~np.isnan(loss_matrix(X))).sum(axis=0)


def centred_ranks(x_MD: np.ndarray) -> np.ndarray:
    """Twice the mid-rank within each column minus (n + 1), as int8 or int16; 0 where the loss is missing."""
    from ppl_assets.estimation.rank_kernels import pairwise_ranks

    n_models = x_MD.shape[0]
    assert n_models <= np.iinfo(np.int16).max, "ranks are stored in two bytes"
    rank_MD = np.zeros(x_MD.shape, np.int8 if n_models <= np.iinfo(np.int8).max else np.int16)
    pairwise_ranks(x_MD, rank_MD)
    return rank_MD


def target_ranks(y_M: np.ndarray, present_MD: np.ndarray | None) -> np.ndarray:
    """Centred double mid-ranks of a target among the models present in each column: M x 1 where none is missing."""
    sign_MM = np.sign(y_M[:, None] - y_M[None, :]).astype(np.float32)
    if present_MD is None:
        return sign_MM.sum(axis=1, keepdims=True).astype(np.float64)
    return np.where(present_MD, sign_MM @ present_MD.astype(np.float32), 0).astype(np.float64)


def _estimate(X: np.ndarray, y: np.ndarray, statistic: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Run `statistic` (texts of a block x targets) over blocks of columns and shape the answer like `y`."""
    x_MD = loss_matrix(X)
    y_TM = errors_by_target(y, x_MD.shape[0])
    n_texts = x_MD.shape[1]
    estimate_TD = np.empty((len(y_TM), n_texts))
    with np.errstate(invalid="ignore", divide="ignore"):
        for start in range(0, n_texts, BLOCK):
            block = slice(start, min(start + BLOCK, n_texts))
            estimate_TD[:, block] = statistic(x_MD[:, block], y_TM)
    flat = y_TM.min(axis=1) == y_TM.max(axis=1)
    estimate_TD[flat] = np.nan
    constant = int(np.isnan(estimate_TD[~flat]).any(axis=0).sum()) if not flat.all() else 0
    if flat.any():
        warnings.warn(f"{flat.sum()} target(s) do not vary over models: their estimates are NaN", stacklevel=3)
    if constant:
        warnings.warn(f"{constant} text(s) do not vary over the models that have them: NaN", stacklevel=3)
    return estimate_TD[0] if np.ndim(y) == 1 else estimate_TD.T


def _present(x_MD: np.ndarray) -> np.ndarray | None:
    """Which losses are there; None where all are."""
    missing = np.isnan(x_MD)
    return ~missing if missing.any() else None


def _constant(x_MD: np.ndarray) -> np.ndarray:
    """Columns in which all the losses present are equal, or fewer than two are present."""
    constant = np.zeros(x_MD.shape[1], bool)
    # Equality with the first present row fails early for almost every column; only the rest is looked at in full.
    suspect = np.flatnonzero((x_MD[0] == x_MD[1]) | np.isnan(x_MD[0]) | np.isnan(x_MD[1]))
    if len(suspect):
        low = np.fmin.reduce(x_MD[:, suspect], axis=0)
        constant[suspect] = ~(low < np.fmax.reduce(x_MD[:, suspect], axis=0))
    return constant


def _linear(x_MD: np.ndarray, y_TM: np.ndarray, *, pairwise: bool) -> np.ndarray:
    """`product`, or `sign` where `pairwise`: weighted sums of the losses themselves."""
    from ppl_assets.estimation.rank_kernels import weighted_sums

    n_models = len(x_MD)
    present_MD = _present(x_MD)
    if present_MD is None:
        weight_TM = np.array([target_ranks(y, None)[:, 0] for y in y_TM]) if pairwise else y_TM
        estimate_TD = np.zeros((len(y_TM), x_MD.shape[1]))
        weighted_sums(x_MD, weight_TM, estimate_TD)
        estimate_TD *= 2 / (n_models * (n_models - 1)) if pairwise else 1 / n_models
    else:
        filled_MD = np.where(present_MD, x_MD, 0)
        n_D = present_MD.sum(axis=0)
        scale_D = 2 / (n_D * (n_D - 1.0)) if pairwise else 1.0 / n_D
        weights = (target_ranks(y, present_MD) if pairwise else y[:, None] for y in y_TM)
        estimate_TD = np.array([(weight * filled_MD).sum(axis=0) * scale_D for weight in weights])
    estimate_TD[:, _constant(x_MD)] = np.nan
    return estimate_TD


def _from_ranks(x_MD: np.ndarray, y_TM: np.ndarray, *, normalised: bool) -> np.ndarray:
    """`spearmanr` where `normalised`, else `sign_cdf`: products of ranks, exact integers in float64."""
    rank_MD = centred_ranks(x_MD).astype(np.float64)
    present_MD = _present(x_MD)
    square_D = np.einsum("md,md->d", rank_MD, rank_MD)
    n_D = np.full(x_MD.shape[1], len(x_MD)) if present_MD is None else present_MD.sum(axis=0)
    estimate_TD = np.empty((len(y_TM), x_MD.shape[1]))
    target_TM1 = [target_ranks(y, present_MD) for y in y_TM]
    for t, target in enumerate(target_TM1):
        net_D = target[:, 0] @ rank_MD if present_MD is None else (target * rank_MD).sum(axis=0)
        scale_D = np.sqrt((target**2).sum(axis=0) * square_D) if normalised else n_D**2 * (n_D - 1.0)
        estimate_TD[t] = np.where(square_D > 0, net_D / scale_D, np.nan)
    return estimate_TD


def _from_pairs(x_MD: np.ndarray, y_TM: np.ndarray, *, tied_apart: bool) -> np.ndarray:
    """`kendall` where `tied_apart`, else `sign_sign`: counts of concordant pairs, exact integers."""
    from ppl_assets.estimation.rank_kernels import concordance

    n_models, n_texts = x_MD.shape
    rank_MD = centred_ranks(x_MD)
    present_MD = _present(x_MD)
    if present_MD is not None:
        rank_MD[~present_MD] = np.iinfo(rank_MD.dtype).min
    later, earlier = np.tril_indices(n_models, -1)
    sign_TP = np.sign(y_TM[:, later] - y_TM[:, earlier]).astype(np.int32)
    net_TD, untied_x_D = np.zeros((len(y_TM), n_texts), np.int32), np.zeros(n_texts, np.int32)
    concordance(rank_MD, sign_TP, net_TD, untied_x_D)
    if present_MD is None:
        pairs = n_models * (n_models - 1) / 2
        untied_y = np.abs(sign_TP).sum(axis=1)[:, None]
    else:
        n_D, here_MD = present_MD.sum(axis=0), present_MD.astype(np.float64)
        pairs = n_D * (n_D - 1) / 2
        differ_TMM = [(y[:, None] != y[None, :]).astype(np.float64) for y in y_TM]
        untied_y = np.array([(here_MD * (differ_MM @ here_MD)).sum(axis=0) / 2 for differ_MM in differ_TMM])
    scale = np.sqrt(untied_x_D * untied_y.astype(np.float64)) if tied_apart else pairs
    return np.where(untied_x_D > 0, net_TD / scale, np.nan)
