"""What the evidence says about each domain for one target: the estimate and everything needed to distrust it.

Estimand: Spearman's rho over models between a domain's bits per byte and the target's error, and how far it exceeds
what the domain would show if it only followed the pool's mean loss. Unit of observation: the model family.

Interval: Fisher's z of the estimate plus and minus Student's t (families - 1 degrees of freedom) times the standard
deviation of z over bootstrap samples of families. The p-value is one-sided against "no better than the pool": ranks of
loss and of error are freed of the pool's mean loss, their products summed by family, and the family sums tested for a
positive mean by Student's t, which stays valid where families differ in size and spread (Ibragimov and Mueller, JBES
28, 2010). What this does not know: whether training on a domain lowers its loss alone, and the page sampling error of
a loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.estimation.domain_scores import (
    better_than_pool,
    column_ranks,
    cosine,
    family_parts,
    family_scores,
    family_sums,
    given,
    mean_loss,
    ranks_of_target,
)
from ppl_assets.estimation.inputs import errors_by_target, family_index, loss_matrix
from ppl_assets.estimation.resampling import (
    bootstrap_weights,
    half_weights,
    jackknife_weights,
    replicate_correlations,
)

BLOCK = 8192  # columns per block: 6 MB of float64 ranks for 90 models
PAIRS = 50  # complementary pairs: Shah and Samworth's own choice, a standard error of at most 0.05
CLIP = 1 - 1e-6  # a bootstrap sample of few families can be perfectly concordant; its z must stay finite


@dataclass(frozen=True, kw_only=True, eq=False)
class DomainEstimates:
    """One value per domain, in the order of the columns given; NaN where a quantity is undefined.

    `estimate` with `stderr` and the interval `ci_low`..`ci_high`; `p_value` and `q_value` (Benjamini-Hochberg) against
    "no better than the pool"; `selection_probability`: how often the domain is in the top share over halves of the
    families; `models`: sample size; `given_size`, `given_mean_loss`: partial rank correlations; `within_family`,
    `between_family`: the correlation inside families and of family means; `shrunken`: the estimate drawn toward its
    group as far as its noise asks.
    """

    domains: tuple[str, ...]
    estimate: np.ndarray
    stderr: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    p_value: np.ndarray
    q_value: np.ndarray
    selection_probability: np.ndarray
    models: np.ndarray
    given_size: np.ndarray
    given_mean_loss: np.ndarray
    within_family: np.ndarray
    between_family: np.ndarray
    shrunken: np.ndarray


def estimate_domains(
    bpb_MD: np.ndarray,
    error_M: np.ndarray,
    *,
    families: Sequence[str],
    domains: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    params: np.ndarray | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    replicates: int = 1000,
    level: float = 0.90,
    top_share: float = 0.10,
) -> DomainEstimates:
    """Estimates with their uncertainty for every domain and one target.

    Args:
        bpb_MD: bits per byte, models x domains; NaN where not measured.
        error_M: the target's error per model, lower is better, finite.
        families: the family of each model; at least two. Resampling draws families, never models.
        domains, models: keys, used in the answer and in messages.
        params: parameters per model (any unit); NaN where unknown. Without it `given_size` is NaN.
        groups: a label per domain toward which estimates are shrunk (language, topic); one group by default.
        seed: of the bootstrap and of the halves; the same seed gives the same answer whatever the order of rows.
        replicates: bootstrap samples of families.
        level: coverage of the intervals.
        top_share: the share of domains that counts as selected in a half.

    Raises:
        InputError: bad shapes, keys, values, too few models or families, or a target that does not vary.
    """
    x_MD = loss_matrix(bpb_MD, models=models, domains=domains)
    y_M = single_target(error_M, len(x_MD), models=models)
    if groups is not None and len(groups) != x_MD.shape[1]:
        raise InputError(f"groups: found {len(groups)}, expected {x_MD.shape[1]}, one per domain")
    family_M = family_index(families, len(x_MD))
    rng = np.random.default_rng(seed)
    row_order = canonical_order(x_MD, y_M, family_M)
    x_MD, y_M, family_M = x_MD[row_order], y_M[row_order], family_M[row_order]
    size_M = None if params is None else _log_size(params, len(row_order))[row_order]
    point = _point_estimates(x_MD, y_M, family_M, size_M)
    interval = _intervals(x_MD, y_M, point["estimate"], bootstrap_weights(family_M, replicates, rng), level, family_M)
    return DomainEstimates(
        domains=tuple(domains) if domains is not None else tuple(str(d) for d in range(x_MD.shape[1])),
        q_value=benjamini_hochberg(point["p_value"]),
        selection_probability=selection_probability(x_MD, y_M, family_M, top_share, rng),
        shrunken=_shrunken(x_MD, y_M, point["estimate"], family_M, groups),
        **point,
        **interval,
    )


def canonical_order(x_MD: np.ndarray, y_M: np.ndarray, family_M: np.ndarray) -> np.ndarray:
    """An order of models that depends on their values alone, so that rows may come in any order."""
    return np.lexsort((*x_MD[:, :64].T, y_M, family_M))


def single_target(error_M: np.ndarray, n_models: int, *, models: Sequence[str] | None) -> np.ndarray:
    """One target's errors as float64, refused where they are not finite or do not vary."""
    y_TM = errors_by_target(error_M, n_models, models=models)
    if np.ndim(error_M) != 1:
        raise InputError(f"errors: found {np.ndim(error_M)} dimensions, expected 1: one target at a time")
    if y_TM.min() == y_TM.max():
        raise InputError(f"errors: all {n_models} models are tied at {y_TM[0, 0]:g}, expected a target that varies")
    return y_TM[0]


def benjamini_hochberg(p_value: np.ndarray) -> np.ndarray:
    """q-values: the smallest false discovery rate at which each would be called. NaN stays NaN and is not counted."""
    q_value = np.full(len(p_value), np.nan)
    known = np.flatnonzero(~np.isnan(p_value))
    order = known[np.argsort(p_value[known], kind="stable")]
    raised = p_value[order] * len(order) / np.arange(1, len(order) + 1)
    q_value[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1)
    return q_value


def selection_probability(
    x_MD: np.ndarray, y_M: np.ndarray, family_M: np.ndarray, top_share: float, rng: np.random.Generator
) -> np.ndarray:
    """Share of halves of the families in which a domain is among the top share; ties at the border share its places."""
    if not 0 < top_share <= 1:
        raise InputError(f"top_share: found {top_share}, expected a share above 0 and at most 1")
    half_MR = half_weights(family_M, PAIRS, rng).reshape(len(x_MD), -1)
    rho_DR = np.concatenate([rho[0] for _, rho, _ in replicate_correlations(x_MD, y_M[None], half_MR)])
    # -inf: a domain that a half cannot judge is not selected there.
    rho_DR = np.where(np.isnan(rho_DR), -np.inf, rho_DR)
    places = max(1, round(top_share * len(rho_DR)))
    border_R = np.partition(rho_DR, -places, axis=0)[-places]
    above_DR, tied_DR = rho_DR > border_R, (rho_DR == border_R) & np.isfinite(rho_DR)
    left_R = places - above_DR.sum(axis=0)
    return (above_DR + tied_DR * (left_R / np.maximum(tied_DR.sum(axis=0), 1))).mean(axis=1)


def _log_size(params: np.ndarray, n_models: int) -> np.ndarray:
    size_M = np.asarray(params, dtype=np.float64)
    if size_M.shape != (n_models,):
        raise InputError(f"params: found shape {size_M.shape}, expected ({n_models},), one count per model")
    if (size_M[~np.isnan(size_M)] <= 0).any():
        raise InputError("params: found a count that is not positive, expected parameters above 0 or NaN for unknown")
    return np.log(size_M)


def _point_estimates(
    x_MD: np.ndarray, y_M: np.ndarray, family_M: np.ndarray, size_M: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Everything that needs no resampling, by blocks of columns."""
    pool_M = mean_loss(x_MD)
    blocks = [
        _point_block(x_MD[:, start : start + BLOCK], y_M, pool_M, family_M, size_M)
        for start in range(0, x_MD.shape[1], BLOCK)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _point_block(
    x_MD: np.ndarray, y_M: np.ndarray, pool_M: np.ndarray, family_M: np.ndarray, size_M: np.ndarray | None
) -> dict[str, np.ndarray]:
    present_MD = ~np.isnan(x_MD)
    present_FD = family_sums(present_MD.astype(np.float64), family_M) > 0
    within, between = family_parts(x_MD, y_M, family_M)
    given_size = np.full(x_MD.shape[1], np.nan)
    if size_M is not None:
        known_M = ~np.isnan(size_M)
        given_size = given(x_MD[known_M], y_M[known_M], size_M[known_M])
    return {
        "estimate": cosine(column_ranks(x_MD), ranks_of_target(x_MD, y_M)),
        "p_value": better_than_pool(family_scores(x_MD, y_M, pool_M, family_M), present_FD),
        "models": present_MD.sum(axis=0),
        "given_size": given_size,
        "given_mean_loss": given(x_MD, y_M, pool_M),
        "within_family": within,
        "between_family": between,
    }


def _intervals(
    x_MD: np.ndarray,
    y_M: np.ndarray,
    estimate_D: np.ndarray,
    weight_MR: np.ndarray,
    level: float,
    family_M: np.ndarray,
) -> dict[str, np.ndarray]:
    """Standard error of rho, and an interval on Fisher's z with Student's t."""
    from scipy.special import stdtrit

    stderr_D, stderr_z_D = np.full(len(estimate_D), np.nan), np.full(len(estimate_D), np.nan)
    for block, rho_TDR, _ in replicate_correlations(x_MD, y_M[None], weight_MR):
        rho_DR = rho_TDR[0]
        known = ~np.isnan(rho_DR).all(axis=1)
        stderr_D[block][known] = np.nanstd(rho_DR[known], axis=1, ddof=1, dtype=np.float64)
        z_DR = np.arctanh(np.clip(rho_DR[known], -CLIP, CLIP))
        stderr_z_D[block][known] = np.nanstd(z_DR, axis=1, ddof=1, dtype=np.float64)
    n_families = family_M.max() + 1
    reach_D = stdtrit(n_families - 1.0, (1 + level) / 2) * stderr_z_D * np.sqrt(n_families / (n_families - 1))
    z_D = np.arctanh(np.clip(estimate_D, -CLIP, CLIP))
    return {"stderr": stderr_D, "ci_low": np.tanh(z_D - reach_D), "ci_high": np.tanh(z_D + reach_D)}


def _shrunken(
    x_MD: np.ndarray, y_M: np.ndarray, estimate_D: np.ndarray, family_M: np.ndarray, groups: Sequence[str] | None
) -> np.ndarray:
    """Empirical-Bayes estimates: Fisher's z of domains around their group, of groups around the pool (normal-normal).

    The noise that counts is that of a domain *relative to its group*, since an unlucky set of models moves all domains
    together; it comes from leaving out one family at a time.
    """
    jackknife = replicate_correlations(x_MD, y_M[None], jackknife_weights(family_M))
    z_DF = np.arctanh(np.clip(np.concatenate([rho[0] for _, rho, _ in jackknife]), -CLIP, CLIP)).astype(np.float64)
    z_D = np.arctanh(np.clip(estimate_D, -CLIP, CLIP))
    group_D = np.zeros(len(z_D), int) if groups is None else np.unique(list(groups), return_inverse=True)[1]
    n_groups = group_D.max() + 1
    centre_G, variance_G, shifted_D = np.full(n_groups, np.nan), np.full(n_groups, np.nan), np.full(len(z_D), np.nan)
    for g in range(n_groups):
        inside = np.flatnonzero((group_D == g) & ~np.isnan(z_D))
        if len(inside) == 0:
            continue
        noise = _jackknife_variance(z_DF[inside] - np.nanmean(z_DF[inside], axis=0))
        centre_G[g] = z_D[inside].mean()
        spread = max(0.0, z_D[inside].var(ddof=1) - noise.mean()) if len(inside) > 1 else 0.0
        variance_G[g] = (spread + noise.mean()) / len(inside)
        keep = spread / (spread + noise) if spread > 0 else np.zeros(len(inside))
        shifted_D[inside] = keep * (z_D[inside] - centre_G[g])
    known = ~np.isnan(centre_G)
    between = max(0.0, centre_G[known].var(ddof=1) - variance_G[known].mean()) if known.sum() > 1 else 0.0
    keep_G = between / (between + variance_G) if between > 0 else np.zeros(n_groups)
    pool = np.nanmean(centre_G)
    return np.tanh(pool + keep_G[group_D] * (centre_G[group_D] - pool) + shifted_D)


def _jackknife_variance(value_DF: np.ndarray) -> np.ndarray:
    n_families = value_DF.shape[1]
    return (n_families - 1) * np.nanvar(value_DF, axis=1)
