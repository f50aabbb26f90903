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

from ppl_assets.estimation.inputs import errors_by_target, loss_array, loss_matrix, refuse_infinite, sums_are_finite
from ppl_assets.estimation.scores import column_scores

BLOCK = 4096  # columns at a time: the ranks of 90 models stay in the second-level cache
WHOLE = np.iinfo(np.int64).max  # sums of losses need no room beside the losses, so they are taken in one go


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
    return by_block(X, y, lambda x_MD, y_TM, present_MD: _linear(x_MD, y_TM, present_MD, pairwise=False), width=WHOLE)


def sign(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean over model pairs of ``sign(y_g - y_k) (x_g - x_k)``: robust to outliers in y only. See `product`."""
    return by_block(X, y, lambda x_MD, y_TM, present_MD: _linear(x_MD, y_TM, present_MD, pairwise=True), width=WHOLE)


def sign_cdf(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean over pairs of ``sign(y_g - y_k) (F(x_g) - F(x_k))``, F the column's empirical distribution.

    Without ties it is `spearmanr` times (N + 1) / 3N. See `product` for arguments.
    """
    return by_block(X, y, lambda x_MD, y_TM, present_MD: _from_ranks(x_MD, y_TM, present_MD, normalised=False))


def spearmanr(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rho of every text with every target, mid-ranks for ties. See `product` for arguments."""
    return by_block(X, y, lambda x_MD, y_TM, present_MD: _from_ranks(x_MD, y_TM, present_MD, normalised=True))


def gumbel(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlation of the ranks of the error with Gumbel scores of the losses (`scores`).

    Losses near the best count more than losses near the worst. Perfect agreement gives a little less than 1 (0.94 for
    many models), since scores and ranks are not proportional. See `product` for arguments.
    """
    return by_block(X, y, _from_scores)


def sign_sign(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean over pairs of ``sign(y_g - y_k) sign(x_g - x_k)``: Kendall's tau-a. See `product` for arguments."""
    return by_block(X, y, lambda x_MD, y_TM, present_MD: _from_pairs(x_MD, y_TM, present_MD, tied_apart=False))


def kendall(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b: concordant minus discordant pairs over the geometric mean of pairs untied in x and in y."""
    return by_block(X, y, lambda x_MD, y_TM, present_MD: _from_pairs(x_MD, y_TM, present_MD, tied_apart=True))


def model_counts(X: np.ndarray) -> np.ndarray:
    """Number of models with a loss for each text: the size of the sample behind each estimate."""
    return (~np.isnan(loss_matrix(X))).sum(axis=0)


def centred_ranks(x_MD: np.ndarray) -> np.ndarray:
    """Twice the mid-rank within each column minus (n + 1), as int8 or int16; 0 where the loss is missing."""
    return _ranks_and_ties(x_MD)[0]


def _ranks_and_ties(x_MD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`centred_ranks`, and which columns have losses that are tied or missing."""
    from ppl_assets.estimation.rank_kernels import column_ranks, sorting_network

    n_models = x_MD.shape[0]
    assert n_models <= np.iinfo(np.int16).max, "ranks are stored in two bytes"
    rank_MD = np.empty(x_MD.shape, np.int8 if n_models <= np.iinfo(np.int8).max else np.int16)
    tied_D = np.empty(x_MD.shape[1], bool)
    column_ranks(x_MD, sorting_network(n_models), rank_MD, tied_D)
    return rank_MD, tied_D


def target_ranks(y_M: np.ndarray, present_MD: np.ndarray | None) -> np.ndarray:
    """Centred double mid-ranks of a target among the models present in each column: M x 1 where none is missing."""
    sign_MM = np.sign(y_M[:, None] - y_M[None, :]).astype(np.float32)
    if present_MD is None:
        return sign_MM.sum(axis=1, keepdims=True).astype(np.float64)
    return np.where(present_MD, sign_MM @ present_MD.astype(np.float32), 0).astype(np.float64)


Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]


def by_block(X: np.ndarray, y: np.ndarray, statistic: Statistic, *, width: int = BLOCK) -> np.ndarray:
    """Run `statistic` (block of losses, errors by target, what is present) over blocks; shape the answer like `y`."""
    x_MD = loss_array(X)
    y_TM = errors_by_target(y, x_MD.shape[0])
    n_texts = x_MD.shape[1]
    estimate_TD = np.empty((len(y_TM), n_texts))
    with np.errstate(invalid="ignore", divide="ignore"):
        for start in range(0, n_texts, width):
            # The kernels run along rows, and fast only where rows are known to follow each other.
            block = np.ascontiguousarray(x_MD[:, start : start + width])
            present_MD = None
            if width == WHOLE:
                # Sums show a missing loss themselves: no pass over the losses just to look for one.
                whole_TD = statistic(block, y_TM, None)
                if np.isfinite(whole_TD).all():
                    estimate_TD = whole_TD
                    break
            if not sums_are_finite(block):
                refuse_infinite(x_MD)
                present_MD = ~np.isnan(block)
            estimate_TD[:, start : start + width] = statistic(block, y_TM, present_MD)
    _warn_of_constants(estimate_TD, y_TM)
    return estimate_TD[0] if np.ndim(y) == 1 else estimate_TD.T


def _warn_of_constants(estimate_TD: np.ndarray, y_TM: np.ndarray) -> None:
    if not np.isnan(estimate_TD).any():
        return
    flat = y_TM.min(axis=1) == y_TM.max(axis=1)
    constant = int(np.isnan(estimate_TD[~flat]).any(axis=0).sum()) if not flat.all() else 0
    if flat.any():
        warnings.warn(f"{flat.sum()} target(s) do not vary over models: their estimates are NaN", stacklevel=4)
    if constant:
        warnings.warn(f"{constant} text(s) do not vary over the models that have them: NaN", stacklevel=4)


def _constant(x_MD: np.ndarray) -> np.ndarray:
    """Columns in which all the losses present are equal, or fewer than two are present."""
    constant = np.zeros(x_MD.shape[1], bool)
    # Equality with the first present row fails early for almost every column; only the rest is looked at in full.
    suspect = np.flatnonzero((x_MD[0] == x_MD[1]) | np.isnan(x_MD[0]) | np.isnan(x_MD[1]))
    if len(suspect):
        low = np.fmin.reduce(x_MD[:, suspect], axis=0)
        constant[suspect] = ~(low < np.fmax.reduce(x_MD[:, suspect], axis=0))
    return constant


def _linear(x_MD: np.ndarray, y_TM: np.ndarray, present_MD: np.ndarray | None, *, pairwise: bool) -> np.ndarray:
    """`product`, or `sign` where `pairwise`: weighted sums of the losses themselves."""
    from ppl_assets.estimation.rank_kernels import weighted_sums

    n_models = len(x_MD)
    weight_TM = np.array([target_ranks(y, None)[:, 0] for y in y_TM]) if pairwise else y_TM
    if present_MD is None:
        estimate_TD = np.zeros((len(y_TM), x_MD.shape[1]))
        weighted_sums(x_MD, weight_TM, estimate_TD)
        estimate_TD *= 2 / (n_models * (n_models - 1)) if pairwise else 1 / n_models
        estimate_TD[y_TM.min(axis=1) == y_TM.max(axis=1)] = np.nan
    else:
        estimate_TD = _linear_with_gaps(x_MD, y_TM, present_MD, pairwise=pairwise)
    estimate_TD[:, _constant(x_MD)] = np.nan
    return estimate_TD


def _linear_with_gaps(x_MD: np.ndarray, y_TM: np.ndarray, present_MD: np.ndarray, *, pairwise: bool) -> np.ndarray:
    filled_MD = np.where(present_MD, x_MD, 0).astype(np.float64)
    n_D = present_MD.sum(axis=0)
    rank_TMD = [target_ranks(y, present_MD) for y in y_TM]
    weights = rank_TMD if pairwise else y_TM[:, :, None]
    scale_D = 2 / (n_D * (n_D - 1.0)) if pairwise else 1.0 / n_D
    estimate_TD = np.array([(weight * filled_MD).sum(axis=0) * scale_D for weight in weights])
    # Errors that are all equal among the models of a text say nothing about it.
    estimate_TD[~np.array([rank_MD.any(axis=0) for rank_MD in rank_TMD])] = np.nan
    return estimate_TD


def _from_ranks(x_MD: np.ndarray, y_TM: np.ndarray, present_MD: np.ndarray | None, *, normalised: bool) -> np.ndarray:
    """`spearmanr` where `normalised`, else `sign_cdf`: products of ranks, exact whole numbers."""
    from ppl_assets.estimation.rank_kernels import rank_sums, sorting_network

    n_models, n_texts = x_MD.shape
    kind = exact_float(n_models)
    target_TMD = [target_ranks(y, present_MD) for y in y_TM]
    if present_MD is None and len(y_TM) == 1:
        # One target needs no ranks written down.
        net_TD, square_D = np.empty((1, n_texts), kind), np.empty(n_texts, kind)
        rank_sums(x_MD, sorting_network(n_models), target_TMD[0][:, 0].astype(kind), net_TD[0], square_D)
    else:
        rank_MD = centred_ranks(x_MD).astype(kind)
        square_D = np.einsum("md,md->d", rank_MD, rank_MD)
        if present_MD is None:
            net_TD = np.array(target_TMD, kind)[:, :, 0] @ rank_MD
        else:
            net_TD = np.array([(target * rank_MD).sum(axis=0) for target in target_TMD])
    n_D = n_models if present_MD is None else present_MD.sum(axis=0)
    square_TD = np.array([(target**2).sum(axis=0) for target in target_TMD]) * square_D.astype(np.float64)
    scale = np.sqrt(square_TD) if normalised else n_D**2 * (n_D - 1.0)
    return np.where(square_TD > 0, net_TD.astype(np.float64) / scale, np.nan)


def exact_float(n_models: int) -> np.dtype:
    """The smallest float type that holds sums of products of ranks, at most (n^3 - n) / 3, as whole numbers."""
    return np.dtype(np.float32 if n_models**3 / 3 < 2**24 else np.float64)


def _from_scores(x_MD: np.ndarray, y_TM: np.ndarray, present_MD: np.ndarray | None) -> np.ndarray:
    """`gumbel`: products of scores and ranks."""
    score_MD = column_scores(centred_ranks(x_MD), present_MD, "gumbel")
    square_D = np.einsum("md,md->d", score_MD, score_MD)
    estimate_TD = np.empty((len(y_TM), x_MD.shape[1]))
    for t, y_M in enumerate(y_TM):
        target = target_ranks(y_M, present_MD)
        net_D = target[:, 0] @ score_MD if present_MD is None else (target * score_MD).sum(axis=0)
        estimate_TD[t] = net_D / np.sqrt((target**2).sum(axis=0) * square_D)
    estimate_TD[:, _constant(x_MD)] = np.nan
    return estimate_TD


def _from_pairs(x_MD: np.ndarray, y_TM: np.ndarray, present_MD: np.ndarray | None, *, tied_apart: bool) -> np.ndarray:
    """`kendall` where `tied_apart`, else `sign_sign`: counts of concordant pairs, exact integers."""
    from ppl_assets.estimation.rank_kernels import concordance, untied_pairs

    n_models, n_texts = x_MD.shape
    # Ranks of one byte compare faster than losses, but only losses know which of them are missing.
    value_MD, tied_D = (
        _ranks_and_ties(x_MD) if present_MD is None else (np.ascontiguousarray(x_MD), np.ones(n_texts, bool))
    )
    tied = np.flatnonzero(tied_D)
    tied_MD = np.ascontiguousarray(value_MD[:, tied])
    net_TD, untied_x_D = np.zeros((len(y_TM), n_texts), np.int64), np.full(n_texts, n_models * (n_models - 1) // 2)
    for y_M, net_D in zip(y_TM, net_TD, strict=True):
        order = np.argsort(y_M, kind="stable")
        lower = np.searchsorted(y_M[order], y_M[order])
        concordance(value_MD, order, lower, net_D)
        # Where no values are tied, pairs that do not agree disagree.
        against_D = lower.sum() - net_D
        against_tied_D = np.zeros(len(tied), np.int64)
        concordance(-tied_MD, order, lower, against_tied_D)
        against_D[tied] = against_tied_D
        net_D -= against_D
    untied_tied_D = np.zeros(len(tied), np.int64)
    untied_pairs(tied_MD, untied_tied_D)
    untied_x_D[tied] = untied_tied_D
    if present_MD is None:
        pairs = n_models * (n_models - 1) / 2
        untied_y = np.array([[(y[:, None] < y[None, :]).sum()] for y in y_TM])
    else:
        n_D, here_MD = present_MD.sum(axis=0), present_MD.astype(np.float64)
        pairs = n_D * (n_D - 1) / 2
        differ_TMM = [(y[:, None] != y[None, :]).astype(np.float64) for y in y_TM]
        untied_y = np.array([(here_MD * (differ_MM @ here_MD)).sum(axis=0) / 2 for differ_MM in differ_TMM])
    scale = np.sqrt(untied_x_D * untied_y.astype(np.float64)) if tied_apart else pairs
    return np.where((untied_x_D > 0) & (untied_y > 0), net_TD / scale, np.nan)
