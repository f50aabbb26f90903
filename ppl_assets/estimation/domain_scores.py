"""Rank arithmetic by column: correlations, what is left of them given the pool's mean loss, and its parts by family.

Ranks are centred double mid-ranks (twice the mid-rank minus n + 1) among the models that a column has, 0 for the
others, so that every sum over models is pairwise-complete. A target's ranks are M x 1 where no loss is missing, else M
x D.
"""

import numpy as np

from ppl_assets.estimation.rank_correlation import centred_ranks, target_ranks


def column_ranks(x_MD: np.ndarray) -> np.ndarray:
    """Ranks of the models in each column, as float64."""
    return centred_ranks(np.ascontiguousarray(x_MD)).astype(np.float64)


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
    """Cosine by column (a correlation, as centred ranks sum to 0); M x 1 broadcasts; NaN where either is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        square = (a_MD**2).sum(axis=0) * (b_MD**2).sum(axis=0)
        return np.where(square > 0, (a_MD * b_MD).sum(axis=0) / np.sqrt(square), np.nan)


def partial(rho_xy: np.ndarray, rho_xz: np.ndarray, rho_zy: np.ndarray) -> np.ndarray:
    """Correlation of x and y given z, from the three pairwise ones; NaN where z leaves nothing of x or y."""
    with np.errstate(invalid="ignore", divide="ignore"):
        left = (1 - np.square(rho_xz)) * (1 - np.square(rho_zy))
        # Rounding leaves about 1e-16 (float64) or 1e-7 (float32) of a variable that z explains in full.
        floor = np.finfo(np.result_type(rho_xy)).eps * 8
        return np.where(left > floor, np.clip((rho_xy - rho_xz * rho_zy) / np.sqrt(left), -1, 1), np.nan)


def given(x_MD: np.ndarray, y_M: np.ndarray, control_M: np.ndarray) -> np.ndarray:
    """Partial rank correlation of every column with `y_M` given `control_M`."""
    ranks, target, control = column_ranks(x_MD), ranks_of_target(x_MD, y_M), ranks_of_target(x_MD, control_M)
    return partial(cosine(ranks, target), cosine(ranks, control), cosine(control, target))


def family_sums(a_MD: np.ndarray, family_M: np.ndarray) -> np.ndarray:
    """Sums over the models of each family, families x columns."""
    member_FM = (np.arange(family_M.max() + 1)[:, None] == family_M[None, :]).astype(np.float64)
    return member_FM @ a_MD


def family_scores(x_MD: np.ndarray, y_M: np.ndarray, pool_M: np.ndarray, family_M: np.ndarray) -> np.ndarray:
    """What each family says for each domain beyond the pool's mean loss: families x domains.

    The product of two residuals, of the domain's ranks and of the target's ranks on the ranks of mean loss `pool_M`,
    summed over the models of a family. Their sum over families has the sign of the partial correlation.
    """
    pool = ranks_of_target(x_MD, pool_M)
    return family_sums(_residual(column_ranks(x_MD), pool) * _residual(ranks_of_target(x_MD, y_M), pool), family_M)


def _residual(a_MD: np.ndarray, control_MD: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (a_MD * control_MD).sum(axis=0) / (control_MD**2).sum(axis=0)
    return a_MD - np.nan_to_num(slope) * control_MD


def better_than_pool(score_FD: np.ndarray, present_FD: np.ndarray) -> np.ndarray:
    """One-sided p-value that family scores have a positive mean: Student's t over the families that have the domain."""
    from scipy.special import stdtr

    n_D = present_FD.sum(axis=0)
    total, square = score_FD.sum(axis=0), (score_FD**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.maximum(square - total**2 / n_D, 0) / (n_D - 1) * n_D)
        return np.where((n_D > 1) & (spread > 0), stdtr(n_D - 1.0, -total / spread), np.nan)


def family_parts(x_MD: np.ndarray, y_M: np.ndarray, family_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of ranks inside families, and of family means (families weigh the same; fewer than 3 give NaN)."""
    ranks, target, present_MD = column_ranks(x_MD), ranks_of_target(x_MD, y_M), ~np.isnan(x_MD)
    count_FD = family_sums(present_MD.astype(np.float64), family_M)
    filled, least_FD = count_FD > 0, np.maximum(count_FD, 1)
    mean_x_FD = family_sums(ranks, family_M) / least_FD
    mean_y_FD = family_sums(np.where(present_MD, target, 0), family_M) / least_FD
    within = cosine(
        np.where(present_MD, ranks - mean_x_FD[family_M], 0), np.where(present_MD, target - mean_y_FD[family_M], 0)
    )
    n_D = filled.sum(axis=0)
    centre_x = np.where(filled, mean_x_FD - mean_x_FD.sum(axis=0) / np.maximum(n_D, 1), 0)
    centre_y = np.where(filled, mean_y_FD - mean_y_FD.sum(axis=0) / np.maximum(n_D, 1), 0)
    return within, np.where(n_D >= 3, cosine(centre_x, centre_y), np.nan)
