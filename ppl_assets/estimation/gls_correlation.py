"""The correlation of a text's losses with the errors over models that repeat one another: generalised least squares.

Quantity: ``r_d = z_d' P y / sqrt(z_d' P z_d  y' P y)``, in -1..1 and 1 where the errors are ordered and spaced as the
losses. z_d are Gumbel scores of the losses of text d (mean 0 and mean square 1 over the models that have it), y normal
scores of the errors. P is the inverse of ``K + penalty I`` without what it says of a common shift (the intercept). K is
how alike models are: the mean over the *distinct* texts of ``z_d z_d'``, so that a text that comes twice counts once.

Why: models with alike losses everywhere say nearly the same about any one text; a plain correlation counts them as
independent. The numerator is, for every text, its coefficient in a ridge regression of the errors on all texts (Wang,
Leng, JRSS-B 78, 2016, in dual form); the whole is the correlation of phylogenetic regression (Martins, Hansen, American
Naturalist 149, 1997) with likeness of losses in the place of descent. Without K it is a plain correlation of scores.

The penalty is `PENALTY` times the mean eigenvalue of K: a direction of ordinary variance over models keeps a quarter of
its weight, whatever the number of models and texts. Prediction would want less, but domains are then ordered worse
(generalised cross-validation and restricted maximum likelihood, docs/estimation.md).

A text that models lack is compared over the models that have it, with the corresponding part of ``K + penalty I``.
What this does not know: which likeness of models is descent and which is a choice of data.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ppl_assets.estimation.inputs import loss_array
from ppl_assets.estimation.rank_correlation import by_block, centred_ranks, target_ranks
from ppl_assets.estimation.scores import column_scores, scores

PENALTY = 3.0  # in mean eigenvalues; 1 to 10 do nearly as well, see docs/estimation.md
BLOCK = 65_536  # texts at a time while likeness is summed up
COLUMNS = 512  # texts at a time in replicates: their 4,095 products for 90 models take 8 MB
ENTRIES = 4_000_000  # numbers in one batch of small systems
ROUNDING = 1e-10  # what cancellation may leave of a variance that is nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """`kernel_MM`: mean over `distinct` texts of products of standard scores. A model's missing scores count as 0."""

    kernel_MM: np.ndarray
    distinct: int


def gls(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlation of every text with every target over models that repeat one another: the default estimate.

    Args:
        X: losses, models x texts, bits per byte; NaN where a loss is missing. A text's estimate depends on the others.
        y: errors, shape (models,) or (models, targets).

    Returns:
        Shape (texts,) or (texts, targets). NaN, with a warning, for constant columns and targets.

    Raises:
        InputError: shapes that do not fit, infinite losses, errors that are not finite, fewer than 3 models.
    """
    return gls_given(X, y, likeness([loss_array(X)]))


def gls_given(X: np.ndarray, y: np.ndarray, alike: Likeness) -> np.ndarray:
    """`gls` for some of the texts, `alike` being summed up over all."""
    precision_MM = precision(alike, np.ones(len(alike.kernel_MM)))
    return by_block(
        X, y, lambda x_MD, y_TM, present_MD: compare(x_MD, target_scores(y_TM), present_MD, precision_MM).correlation_TD
    )


def standard_scores(rank_MD: np.ndarray, present_MD: np.ndarray | None) -> np.ndarray:
    """Gumbel scores of centred double mid-ranks with mean 0 and mean square 1 over the models present; 0 for the others
    and in constant columns."""
    score_MD = column_scores(rank_MD, present_MD, "gumbel") * rank_MD.any(axis=0)
    n_D = len(rank_MD) if present_MD is None else np.maximum(present_MD.sum(axis=0), 1)
    deviation_D = np.sqrt((score_MD**2).sum(axis=0) / n_D)
    return score_MD / np.where(deviation_D > 0, deviation_D, 1)


def target_scores(y_TM: np.ndarray) -> np.ndarray:
    """Normal scores of the errors with mean 0, targets x models.

    Sums over many texts are nearly normal. On plain ranks the extremes look closer than they are, and a regression on
    all texts makes up for it with texts that have nothing to do with the target.
    """
    n_models = y_TM.shape[1]
    rank_TM = np.array([target_ranks(y_M, None)[:, 0] for y_M in y_TM])
    score_TM = scores((rank_TM + n_models) / (2 * n_models), "normal")
    return score_TM - score_TM.mean(axis=1, keepdims=True)


def likeness(blocks: Iterable[np.ndarray]) -> Likeness:
    """Sum up how alike models are over blocks of texts (losses, models x texts), each distinct text once.

    Texts are the same where their ranks are, which is all that estimates see. They are told apart by a random sum of
    64 bits: among a million texts, two different ones share it with a probability of about 1e-5, and one is then left
    out of the mean.
    """
    total_MM, distinct, seen = np.zeros(()), 0, np.zeros(0, np.int64)
    for x_MD in blocks:
        for start in range(0, x_MD.shape[1], BLOCK):
            block = np.ascontiguousarray(x_MD[:, start : start + BLOCK])
            present_MD = ~np.isnan(block)
            rank_MD = centred_ranks(block)
            key_D, first = np.unique(_keys(rank_MD, present_MD), return_index=True)
            new = first[~np.isin(key_D, seen) & rank_MD[:, first].any(axis=0)]
            seen = np.union1d(seen, key_D)
            score_MD = standard_scores(rank_MD[:, new], present_MD[:, new])
            total_MM, distinct = total_MM + score_MD @ score_MD.T, distinct + len(new)
    return Likeness(kernel_MM=total_MM / max(distinct, 1), distinct=distinct)


def _keys(rank_MD: np.ndarray, present_MD: np.ndarray) -> np.ndarray:
    """A sum of 64 bits per column that depends on its ranks and on which are missing; overflow is meant."""
    marked_MD = np.where(present_MD, rank_MD.astype(np.int64), np.iinfo(np.int16).max)
    factor_M = np.random.default_rng(0).integers(np.iinfo(np.int64).min, np.iinfo(np.int64).max, len(rank_MD))
    return factor_M @ marked_MD


def precision(alike: Likeness, weight_M: np.ndarray) -> np.ndarray:
    """P: the inverse covariance of the models' errors, orthogonal to a common shift; `weight_M` copies of each model.

    Copies of a model are alike in all but the penalty: the covariance of weighted models is ``K + penalty / weight``.
    All zeros where fewer than three models or no likeness are left.
    """
    kernel_MM, n = alike.kernel_MM, weight_M.sum()
    trace = weight_M @ np.diag(kernel_MM) - weight_M @ kernel_MM @ weight_M / max(n, 1)
    penalty = PENALTY * trace / max(min(n - 1, alike.distinct), 1)
    if n < 3 or not penalty > ROUNDING:
        return np.zeros_like(kernel_MM)
    root_M = np.sqrt(weight_M)
    inner_MM = np.linalg.inv(root_M[:, None] * kernel_MM * root_M + penalty * np.eye(len(root_M)))
    inverse_MM = root_M[:, None] * inner_MM * root_M
    shift_M = inverse_MM.sum(axis=0)
    return inverse_MM - np.outer(shift_M, shift_M) / shift_M.sum()


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """`correlation_TD`; `filled_MD`: scores with missing ones at what the other models' imply; `share_TD`: the part of
    the target's variance, in the metric, that the models of a text carry."""

    correlation_TD: np.ndarray
    filled_MD: np.ndarray
    share_TD: np.ndarray


def compare(x_MD: np.ndarray, y_TM: np.ndarray, present_MD: np.ndarray | None, precision_MM: np.ndarray) -> Comparison:
    """Correlations of losses with target scores in a metric, over the models of each column; NaN where undefined."""
    score_MD = standard_scores(centred_ranks(x_MD), present_MD)
    leaned_MD, leaned_MT = precision_MM @ score_MD, precision_MM @ y_TM.T
    net_TD = leaned_MT.T @ score_MD
    square_D = np.einsum("md,md->d", score_MD, leaned_MD)
    whole_T = np.einsum("tm,mt->t", y_TM, leaned_MT)
    square_TD, least_D = np.repeat(whole_T[:, None], len(square_D), axis=1), ROUNDING * square_D
    filled_MD = score_MD
    if present_MD is not None:
        filled_MD = score_MD.copy()
        for rows, columns in _gaps(present_MD, score_MD):
            _leave_out(precision_MM, leaned_MD, leaned_MT, rows, columns, net_TD, square_D, square_TD, filled_MD)
    with np.errstate(invalid="ignore", divide="ignore"):
        known = (square_D > least_D) & (square_TD > ROUNDING * whole_T[:, None])
        correlation_TD = np.where(known, np.clip(net_TD / np.sqrt(square_D * square_TD), -1, 1), np.nan)
        return Comparison(correlation_TD=correlation_TD, filled_MD=filled_MD, share_TD=square_TD / whole_T[:, None])


def _gaps(present_MD: np.ndarray, score_MD: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Columns that vary and miss equally many models, in batches, with the models they miss (columns x missing)."""
    missing_D = np.where(score_MD.any(axis=0), (~present_MD).sum(axis=0), 0)
    for count in np.unique(missing_D[missing_D > 0]):
        columns = np.flatnonzero(missing_D == count)
        for part in np.array_split(columns, -(-len(columns) * count**2 // ENTRIES)):
            yield np.nonzero(~present_MD[:, part].T)[1].reshape(len(part), count), part


def _leave_out(
    precision_MM: np.ndarray,
    leaned_MD: np.ndarray,
    leaned_MT: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    net_TD: np.ndarray,
    square_D: np.ndarray,
    square_TD: np.ndarray,
    filled_MD: np.ndarray,
) -> None:
    """Correct products in `columns` for models that they miss, in place.

    The inverse covariance of the models left is the Schur complement ``P_oo - P_om inv(P_mm) P_mo``: from a product
    ``a' P b`` of vectors that are 0 or whatever at the missing models goes ``(P a)_m' inv(P_mm) (P b)_m``.
    """
    right_C = np.concatenate([leaned_MD[rows, columns[:, None]][:, :, None], leaned_MT[rows]], axis=2)
    solved_C = np.linalg.solve(precision_MM[rows[:, :, None], rows[:, None, :]], right_C)
    square_D[columns] -= (right_C[:, :, 0] * solved_C[:, :, 0]).sum(axis=1)
    net_TD[:, columns] -= np.einsum("cm,cmt->tc", right_C[:, :, 0], solved_C[:, :, 1:])
    square_TD[:, columns] -= np.einsum("cmt,cmt->tc", right_C[:, :, 1:], solved_C[:, :, 1:])
    filled_MD[rows, columns[:, None]] = -solved_C[:, :, 0]


def replicate_gls(x_MD: np.ndarray, y_M: np.ndarray, weight_MR: np.ndarray) -> Iterator[np.ndarray]:
    """The correlation of every column with one target in every replicate, by blocks of columns: D x R float32.

    Weights say how often each model is in a replicate. Scores, the target's too, stay those of the whole pool: only the
    metric and the sums are taken anew. Missing scores are filled from the whole pool, which changes no product there.
    """
    alike, y_TM = likeness([x_MD]), target_scores(y_M[None])
    whole_MM = precision(alike, np.ones(len(x_MD)))
    upper = np.triu_indices(len(x_MD))
    twice = np.where(upper[0] == upper[1], 1, 2)
    metric_PR, leaned_MR, square_R = _metrics(alike, y_TM[0], weight_MR, upper, twice)
    for start in range(0, x_MD.shape[1], COLUMNS):
        x = np.ascontiguousarray(x_MD[:, start : start + COLUMNS])
        present_MD = ~np.isnan(x)
        found = compare(x, y_TM, present_MD, whole_MM)
        z_MD = found.filled_MD.astype(np.float32)
        scale_DR = (z_MD[upper[0]] * z_MD[upper[1]]).T @ metric_PR
        scale_DR *= (square_R * found.share_TD[0][:, None]).astype(np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            rho_DR = z_MD.T @ leaned_MR / np.sqrt(scale_DR)
        rho_DR[np.isnan(found.correlation_TD[0])] = np.nan
        yield np.clip(rho_DR, -1, 1)


def _metrics(
    alike: Likeness, y_M: np.ndarray, weight_MR: np.ndarray, upper: tuple[np.ndarray, np.ndarray], twice: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per replicate: its metric's upper triangle (pairs x R), the metric times the target (M x R), and its square."""
    n_models, n_replicates = weight_MR.shape
    metric_PR = np.empty((len(twice), n_replicates), np.float32)
    leaned_MR, square_R = np.empty((n_models, n_replicates), np.float32), np.empty(n_replicates)
    for r in range(n_replicates):
        precision_MM = precision(alike, weight_MR[:, r].astype(np.float64))
        leaned_M = precision_MM @ y_M
        metric_PR[:, r] = precision_MM[upper] * twice
        leaned_MR[:, r], square_R[r] = leaned_M, y_M @ leaned_M
    # A half in which all models are tied leaves nothing but rounding.
    square_R[square_R <= ROUNDING * square_R.max(initial=0)] = np.nan
    return metric_PR, leaned_MR, square_R
