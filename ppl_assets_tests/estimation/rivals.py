"""Ways to order domains, ours and those that lost: from losses (models x domains) and errors; larger is better."""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from ppl_assets.estimation import kendall, spearmanr
from ppl_assets.estimation.domain_scores import cosine, given, mean_loss, point_estimate, ranks_of_target

Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _shares(values: np.ndarray) -> np.ndarray:
    return (rankdata(values, axis=0) - 0.5) / len(values)


def _normal(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(ndtri(_shares(values)))


def scored(score: Callable[[np.ndarray], np.ndarray]) -> Rule:
    """Correlation of scores of the losses with ranks of the error."""

    def rule(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        column = score(_shares(x))
        column = np.nan_to_num(column - np.nanmean(column, axis=0))
        return cosine(column, ranks_of_target(x, y))

    return rule


def ours(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The default estimate."""
    return point_estimate(x, y, "gls")


def gumbel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Gumbel scores without regard to likeness of models."""
    return point_estimate(x, y, "gumbel")


def ridge(penalty: float, score: Callable[[np.ndarray], np.ndarray] = ndtri) -> Rule:
    """Ridge regression of normal scores of the error on standardised scores of all losses; penalty in units of models.

    In its dual form, which is HOLP's where there are more domains than models (Wang and Leng, 2016).
    """

    def rule(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        z, target = score(_shares(x)), _normal(y[:, None])[:, 0]
        z = (z - z.mean(axis=0)) / z.std(axis=0)
        return z.T @ np.linalg.solve(z @ z.T + penalty * len(y) * np.eye(len(y)), target)

    return rule


def _gumbel(u: np.ndarray) -> np.ndarray:
    return np.log(-np.log1p(-u))


def fitted_ridge(criterion: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Rule:
    """Ridge on Gumbel scores with the penalty of least `criterion` of (penalties x models) shares kept, and targets."""

    def rule(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        z, target = _gumbel(_shares(x)), _normal(y[:, None])[:, 0]
        z = (z - z.mean(axis=0)) / z.std(axis=0)
        value, vector = np.linalg.eigh(z @ z.T)
        # The direction of a common shift has no variance and no part in the target.
        value, turned = np.maximum(value[1:], 0), (vector.T @ target)[1:]
        penalty_P = value.mean() * np.logspace(-4, 4, 60)
        best = penalty_P[np.argmin(criterion(penalty_P[:, None] / (value + penalty_P[:, None]), turned))]
        return z.T @ (vector[:, 1:] @ (turned / (value + best)))

    return rule


def cross_validation(left_PM: np.ndarray, turned_M: np.ndarray) -> np.ndarray:
    """Generalised cross-validation (Golub, Heath, Wahba, Technometrics 21, 1979)."""
    return ((left_PM * turned_M) ** 2).sum(axis=1) / left_PM.sum(axis=1) ** 2


def likelihood(left_PM: np.ndarray, turned_M: np.ndarray) -> np.ndarray:
    """Minus the restricted log-likelihood of likeness plus independent noise, noise variance profiled out."""
    n = left_PM.shape[1]
    return n * np.log((left_PM * turned_M**2).sum(axis=1)) - np.log(left_PM).sum(axis=1)


def partial_least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coefficients of two PLS components on normal scores."""
    z, target = _normal(x), _normal(y[:, None])[:, 0]
    basis: list[np.ndarray] = []
    for _ in range(2):
        covariance = z.T @ target
        if basis:
            spanned = np.stack(basis, axis=1)
            covariance = z.T @ (target - z @ spanned @ np.linalg.lstsq(z @ spanned, target, rcond=None)[0])
        basis.append(covariance / np.linalg.norm(covariance))
    spanned = np.stack(basis, axis=1)
    return spanned @ np.linalg.lstsq(z @ spanned, target, rcond=None)[0]


def factor_adjusted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlation of normal scores after removing the leading factor of the losses from both."""
    z, target = _normal(x), _normal(y[:, None])
    factor = np.linalg.svd(z, full_matrices=False)[0][:, :1]
    return cosine(z - factor @ (factor.T @ z), target - factor @ (factor.T @ target))


RULES: dict[str, Rule] = {
    "GLS (default)": ours,
    "Spearman": spearmanr,
    "Gumbel scores": gumbel,
    "Kendall tau-b": kendall,
    "normal scores": scored(ndtri),
    "square root of rank": scored(np.sqrt),
    "log rank (Savage)": scored(np.log),
    "lowest tenth of losses": scored(lambda u: np.where(np.isnan(u), np.nan, -(u <= 0.1).astype(float))),
    "ridge on normal scores, penalty 1": ridge(1),
    "ridge on normal scores, penalty 4": ridge(4),
    "ridge on Gumbel scores, penalty 1": ridge(1, _gumbel),
    "ridge on Gumbel scores, penalty 4": ridge(4, _gumbel),
    "ridge on Gumbel scores, cross-validated": fitted_ridge(cross_validation),
    "ridge on Gumbel scores, restricted likelihood": fitted_ridge(likelihood),
    "two PLS components": partial_least_squares,
    "given mean loss": lambda x, y: given(x, y, mean_loss(x)),
    "one factor removed": factor_adjusted,
}
WITH_GAPS = ("GLS (default)", "Spearman", "Gumbel scores", "Kendall tau-b", "given mean loss")
