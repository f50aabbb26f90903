"""Rank arithmetic by column: correlations, what is left of them given the pool's mean loss, and its parts by family.

Ranks are centred double mid-ranks (twice the mid-rank minus n + 1) among the models that a column has, 0 for the
others, so that every sum over models is pairwise-complete. A target's ranks are M x 1 where no loss is missing, else M
x D.
"""

import numpy as np

from ppl_assets.estimation.gls_correlation import compare, likeness, precision, target_scores
from ppl_assets.estimation.inputs import MIN_MODELS
from ppl_assets.estimation.rank_correlation import centred_ranks, target_ranks
from ppl_assets.estimation.scores import Estimator, Score, column_scores

BLOCK = 8192  # columns per block: 6 MB of float64 ranks for 90 models
CLIP = 1 - 1e-6  # a sample of few families can be perfectly concordant; its z must stay finite


def centred_scores(x_MD: np.ndarray, score: Score = "spearman") -> np.ndarray:
    """Scores of the losses with mean 0 in each column, as float64; 0 where the loss is missing."""
    present_MD = ~np.isnan(x_MD)
    return column_scores(centred_ranks(x_MD), None if present_MD.all() else present_MD, score)


def point_estimate(x_MD: np.ndarray, y_M: np.ndarray, estimator: Estimator) -> np.ndarray:
    """The estimate of every column for one target; NaN, without a warning, where undefined or of two models."""
    blocks = (np.ascontiguousarray(x_MD[:, start : start + BLOCK]) for start in range(0, x_MD.shape[1], BLOCK))
    if estimator != "gls":
        found = [cosine(centred_scores(x, estimator), ranks_of_target(x, y_M)) for x in blocks]
    else:
        y_TM, metric_MM = target_scores(y_M[None]), precision(likeness([x_MD]), np.ones(len(x_MD)))
        found = [compare(x, y_TM, ~np.isnan(x), metric_MM).correlation_TD[0] for x in blocks]
    return np.where((~np.isnan(x_MD)).sum(axis=0) < MIN_MODELS, np.nan, np.concatenate(found))


def ranks_of_target(x_MD: np.ndarray, y_M: np.ndarray) -> np.ndarray:
    """Ranks of `y_M` among the models that each column of `x_MD` has."""
    present_MD = ~np.isnan(x_MD)
    return target_ranks(y_M, None if present_MD.all() else present_MD)


def mean_loss(x_MD: np.ndarray) -> np.ndarray:
    """The pool's mean loss of each model, in mid-ranks: every domain counts the same, whatever its units and spread."""
    present_MD = ~np.isnan(x_MD)
    share_MD = centred_ranks(x_MD) / np.maximum(present_MD.sum(axis=0), 1).astype(np.float32)
    return share_MD.sum(axis=1, dtype=np.float64) / np.maximum(present_MD.sum(axis=1), 1)


def cosine(a_MD: np.ndarray, b_MD: np.ndarray) -> np.ndarray:
    """Cosine by column (a correlation where both are centred); M x 1 broadcasts; NaN where either is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        square = (a_MD**2).sum(axis=0) * (b_MD**2).sum(axis=0)
        return np.where(square > 0, (a_MD * b_MD).sum(axis=0) / np.sqrt(square), np.nan)


def fisher(rho: np.ndarray) -> np.ndarray:
    """Fisher's z of correlations."""
    return np.arctanh(np.clip(rho, -CLIP, CLIP))


def partial(rho_xy: np.ndarray, rho_xz: np.ndarray, rho_zy: np.ndarray) -> np.ndarray:
    """Correlation of x and y given z, from the three pairwise ones; NaN where z leaves nothing of x or y."""
    with np.errstate(invalid="ignore", divide="ignore"):
        left = (1 - np.square(rho_xz)) * (1 - np.square(rho_zy))
        # Rounding leaves about 1e-16 (float64) or 1e-7 (float32) of a variable that z explains in full.
        floor = np.finfo(np.result_type(rho_xy)).eps * 8
        return np.where(left > floor, np.clip((rho_xy - rho_xz * rho_zy) / np.sqrt(left), -1, 1), np.nan)


def given(x_MD: np.ndarray, y_M: np.ndarray, control_M: np.ndarray) -> np.ndarray:
    """Partial rank correlation of every column with `y_M` given `control_M`."""
    ranks, target, control = centred_scores(x_MD), ranks_of_target(x_MD, y_M), ranks_of_target(x_MD, control_M)
    return partial(cosine(ranks, target), cosine(ranks, control), cosine(control, target))


def family_sums(a_MD: np.ndarray, family_M: np.ndarray) -> np.ndarray:
    """Sums over the models of each family, families x columns."""
    member_FM = (np.arange(family_M.max() + 1)[:, None] == family_M[None, :]).astype(np.float64)
    return member_FM @ a_MD


def family_means(a_MD: np.ndarray, present_MD: np.ndarray, family_M: np.ndarray) -> np.ndarray:
    """Mean of each family over the models present; NaN where none is. Families x columns."""
    count_FD = family_sums(present_MD.astype(np.float64), family_M)
    with np.errstate(invalid="ignore", divide="ignore"):
        return family_sums(np.where(present_MD, a_MD, 0), family_M) / count_FD


def centred_families(mean_FD: np.ndarray) -> np.ndarray:
    """Family means less their mean over families, which weigh the same; 0 where a family lacks the column."""
    present_FD = ~np.isnan(mean_FD)
    n_D = np.maximum(present_FD.sum(axis=0), 1)
    return np.where(present_FD, mean_FD - np.where(present_FD, mean_FD, 0).sum(axis=0) / n_D, 0)


def family_parts(x_MD: np.ndarray, y_M: np.ndarray, family_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of ranks inside families, and of family means (fewer than 3 families give NaN)."""
    ranks, target, present_MD = centred_scores(x_MD), ranks_of_target(x_MD, y_M), ~np.isnan(x_MD)
    mean_x_FD, mean_y_FD = (family_means(values, present_MD, family_M) for values in (ranks, target))
    within = cosine(
        np.where(present_MD, ranks - mean_x_FD[family_M], 0), np.where(present_MD, target - mean_y_FD[family_M], 0)
    )
    enough = (~np.isnan(mean_x_FD)).sum(axis=0) >= 3
    return within, np.where(enough, cosine(centred_families(mean_x_FD), centred_families(mean_y_FD)), np.nan)


def family_residuals(
    x_MD: np.ndarray, y_M: np.ndarray, pool_M: np.ndarray, family_M: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses and target of families, freed of the families' mean loss, and the leverage of what was fitted: F x D each.

    One observation per family: the mean of its models' normal scores. (Plain ranks crowd at the ends, where residuals
    of losses and errors then shrink together, which no test of independence forgives.) Residuals have mean 0 and are
    orthogonal to mean loss over the families a column has; they are 0 for a family that lacks it.
    """
    present_MD = ~np.isnan(x_MD)
    scored = (
        centred_scores(np.where(present_MD, values, np.nan), "normal")
        for values in (x_MD, y_M[:, None], pool_M[:, None])
    )
    mean_x_FD, mean_y_FD, mean_pool_FD = (family_means(score_MD, present_MD, family_M) for score_MD in scored)
    present_FD = ~np.isnan(mean_x_FD)
    x_FD, y_FD, pool_FD = (centred_families(mean_FD) for mean_FD in (mean_x_FD, mean_y_FD, mean_pool_FD))
    square_D = np.maximum((pool_FD**2).sum(axis=0), np.finfo(float).tiny)
    leverage_FD = present_FD / np.maximum(present_FD.sum(axis=0), 1) + pool_FD**2 / square_D
    return residual(x_FD, pool_FD), residual(y_FD, pool_FD), leverage_FD


def residual(a_FD: np.ndarray, control_FD: np.ndarray) -> np.ndarray:
    """What a least-squares line on the control leaves of each column; all of it where the control is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (a_FD * control_FD).sum(axis=0) / (control_FD**2).sum(axis=0)
    return a_FD - np.nan_to_num(slope) * control_FD


def better_than_pool(x_MD: np.ndarray, y_M: np.ndarray, pool_M: np.ndarray, family_M: np.ndarray) -> np.ndarray:
    """One-sided p-value of "given the pool's mean loss, the domain does not rise with the error", families as units.

    Student's t of the partial correlation of family means, with families - 3 degrees of freedom; the smaller of the
    ordinary t and the one robust to unequal variances (HC3: MacKinnon and White, Journal of Econometrics 29, 1985),
    since families differ in size and either alone is too eager for some sizes. NaN below 4 families.
    """
    from scipy.special import stdtr

    x_FD, y_FD, leverage_FD = family_residuals(x_MD, y_M, pool_M, family_M)
    present_FD = family_sums((~np.isnan(x_MD)).astype(np.float64), family_M) > 0
    freedom_D = present_FD.sum(axis=0) - 3.0
    with np.errstate(invalid="ignore", divide="ignore"):
        square_D = (x_FD**2).sum(axis=0)
        slope_D = (x_FD * y_FD).sum(axis=0) / square_D
        left_FD = y_FD - slope_D * x_FD
        plain_D = np.sqrt((left_FD**2).sum(axis=0) / freedom_D / square_D)
        inflated_FD = left_FD / np.maximum(1 - leverage_FD - x_FD**2 / square_D, 1e-3)
        robust_D = np.sqrt(((x_FD * inflated_FD) ** 2).sum(axis=0)) / square_D
        t_D = np.minimum(slope_D / plain_D, slope_D / robust_D)
        return np.where(freedom_D > 0, stdtr(np.maximum(freedom_D, 1), -t_D), np.nan)
