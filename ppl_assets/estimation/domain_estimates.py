"""What the evidence says about each domain for one target: the estimate and everything needed to distrust it.

Estimand: the correlation over models of a domain's bits per byte and the target's error (`gls_correlation`, or plain
ranks or `scores`); does it exceed what the domain would show if it only followed the pool's mean loss. Unit of
observation: the model family.

Interval: Fisher's z of the estimate plus and minus Student's t (families - 1 degrees of freedom)
times the standard error of z, from bootstrap samples of families and from leaving one out (`_intervals`), and where
losses by page are given from samples of pages (`page_sampling`): where the estimates of other pools of as many models
and families, on as many other pages, would lie on average. The p-value is one-sided
against "no better than the pool", one observation per family (`better_than_pool`). What this does not know: whether
training on a domain lowers its loss alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.estimation.domain_scores import (
    BLOCK,
    better_than_pool,
    family_parts,
    fisher,
    given,
    mean_loss,
    point_estimate,
)
from ppl_assets.estimation.inputs import MIN_MODELS, canonical_order, family_index, log_size, loss_matrix, single_target
from ppl_assets.estimation.page_sampling import PageVariance, SampledPages, page_variance
from ppl_assets.estimation.resampling import (
    bootstrap_weights,
    half_weights,
    jackknife_weights,
    replicates_of,
)
from ppl_assets.estimation.scores import Estimator, check_estimator

PAIRS = 50  # complementary pairs: Shah and Samworth's own choice, a standard error of at most 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class DomainEstimates:
    """One value per domain, in the order of the columns given; NaN where a quantity is undefined.

    `estimate` with `stderr` and the interval `ci_low`..`ci_high`; `page_stderr`: what the choice of pages alone adds to
    `stderr`, NaN without losses by page; `p_value` and `q_value` (Benjamini-Hochberg) against
    "no better than the pool"; `selection_probability`: how often the domain is in the top share over halves of the
    families; `models`: sample size; `given_size`, `given_mean_loss`: partial rank correlations; `within_family`,
    `between_family`: the correlation inside families and of family means; `shrunken`: the estimate drawn toward its
    group as far as its noise asks.
    """

    domains: tuple[str, ...]
    estimate: np.ndarray
    stderr: np.ndarray
    page_stderr: np.ndarray
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
    pages: SampledPages | None = None,
    estimator: Estimator = "gls",
    seed: int = 0,
    replicates: int = 1000,
    level: float = 0.90,
    top_share: float = 0.10,
) -> DomainEstimates:
    """Estimates with their uncertainty for every domain and one target.

    Args:
        bpb_MD: bits per byte, models x domains; NaN where not measured. A domain of fewer than 3 models has no
            estimate, and one of a few more one that chance can make as high as any: leave out those of too few.
        error_M: the target's error per model, lower is better, finite.
        families: the family of each model; at least two. Resampling draws families, never models.
        domains: keys of the domains, used in the answer and in messages.
        models: keys of the models, likewise.
        params: parameters per model (any unit); NaN where unknown. Without it `given_size` is NaN.
        groups: a label per domain toward which estimates are shrunk (language, topic); one group by default.
        pages: losses by page; with them, errors and intervals count the choice of pages too.
        estimator: what is behind `estimate`, its error, `selection_probability` and `shrunken`: ``gls``, ``gumbel`` or
            ``spearman``. Partial correlations, family parts and p-values always use plain ranks.
        seed: of the bootstrap and of the halves; the same seed gives the same answer whatever the order of rows.
        replicates: bootstrap samples of families.
        level: coverage of the intervals.
        top_share: the share of domains that counts as selected in a half.

    Raises:
        InputError: bad shapes, keys, values, too few models or families, or a target that does not vary.
    """
    check_estimator(estimator)
    x_MD = loss_matrix(bpb_MD, models=models, domains=domains)
    y_M = single_target(error_M, len(x_MD), models=models)
    if not 0 < top_share <= 1:
        raise InputError(f"top_share: found {top_share}, expected a share above 0 and at most 1")
    if groups is not None and len(groups) != x_MD.shape[1]:
        raise InputError(f"groups: found {len(groups)}, expected {x_MD.shape[1]}, one per domain")
    family_M = family_index(families, len(x_MD))
    rng = np.random.default_rng(seed)
    row_order = canonical_order(x_MD, y_M, family_M)
    models_D = (~np.isnan(x_MD)).sum(axis=0)
    # Over two models any correlation is 1 or -1: such a domain counts as one that no model has.
    x_MD = np.where(models_D < MIN_MODELS, np.nan, x_MD)[row_order]
    y_M, family_M = y_M[row_order], family_M[row_order]
    size_M = None if params is None else log_size(params, len(row_order))[row_order]
    point = _point_estimates(x_MD, y_M, family_M, size_M, estimator)
    bootstrap, halves, jackknife = (
        replicates_of(x_MD, y_M, weight_MR, estimator)
        for weight_MR in (
            bootstrap_weights(family_M, replicates, rng),
            half_weights(family_M, PAIRS, rng).reshape(len(x_MD), -1),
            jackknife_weights(family_M),
        )
    )
    left_out_DF = np.concatenate(list(jackknife))
    paged = _page_variance(pages, x_MD, y_M, family_M, row_order, estimator, rng)
    return DomainEstimates(
        domains=tuple(domains) if domains is not None else tuple(str(d) for d in range(x_MD.shape[1])),
        q_value=benjamini_hochberg(point["p_value"]),
        selection_probability=_selection_probability(halves, top_share),
        models=models_D,
        shrunken=_shrunken(point["estimate"], left_out_DF, groups),
        **point,
        **_intervals(point["estimate"], bootstrap, left_out_DF, paged, level, family_M),
    )


def benjamini_hochberg(p_value: np.ndarray) -> np.ndarray:
    """q-values: the smallest false discovery rate at which each would be called. NaN stays NaN and is not counted."""
    q_value = np.full(len(p_value), np.nan)
    known = np.flatnonzero(~np.isnan(p_value))
    order = known[np.argsort(p_value[known], kind="stable")]
    raised = p_value[order] * len(order) / np.arange(1, len(order) + 1)
    q_value[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1)
    return q_value


def _selection_probability(halves: Iterable[np.ndarray], top_share: float) -> np.ndarray:
    """Share of halves of the families in which a domain is among the top share; ties at the border share its places."""
    # -inf: a domain that a half cannot judge is not selected there.
    rho_DR = np.concatenate([np.where(np.isnan(rho_DR), -np.inf, rho_DR) for rho_DR in halves])
    places = max(1, round(top_share * len(rho_DR)))
    border_R = np.partition(rho_DR, -places, axis=0)[-places]
    above_DR, tied_DR = rho_DR > border_R, (rho_DR == border_R) & np.isfinite(rho_DR)
    left_R = places - above_DR.sum(axis=0)
    return (above_DR + tied_DR * (left_R / np.maximum(tied_DR.sum(axis=0), 1))).mean(axis=1)


def _point_estimates(
    x_MD: np.ndarray, y_M: np.ndarray, family_M: np.ndarray, size_M: np.ndarray | None, estimator: Estimator
) -> dict[str, np.ndarray]:
    """Everything that needs no resampling, by blocks of columns."""
    pool_M = mean_loss(x_MD)
    blocks = []
    for start in range(0, x_MD.shape[1], BLOCK):
        x = x_MD[:, start : start + BLOCK]
        within, between = family_parts(x, y_M, family_M)
        blocks.append(
            {
                "p_value": better_than_pool(x, y_M, pool_M, family_M),
                "given_size": _given_size(x, y_M, size_M),
                "given_mean_loss": given(x, y_M, pool_M),
                "within_family": within,
                "between_family": between,
            }
        )
    parts = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    return {"estimate": point_estimate(x_MD, y_M, estimator), **parts}


def _given_size(x_MD: np.ndarray, y_M: np.ndarray, size_M: np.ndarray | None) -> np.ndarray:
    """Partial correlations given size over the models whose size is known; NaN where fewer than three are."""
    if size_M is None or (known_M := ~np.isnan(size_M)).sum() < MIN_MODELS:
        return np.full(x_MD.shape[1], np.nan)
    return given(x_MD[known_M], y_M[known_M], size_M[known_M])


def _page_variance(
    pages: SampledPages | None,
    x_MD: np.ndarray,
    y_M: np.ndarray,
    family_M: np.ndarray,
    row_order: np.ndarray,
    estimator: Estimator,
    rng: np.random.Generator,
) -> PageVariance | None:
    """`page_variance` of models in another order, where there are losses by page."""
    if pages is None:
        return None
    pages.check(*x_MD.shape)
    ordered = pages.of_models(row_order)
    return page_variance(ordered, x_MD, y_M, family_M=family_M, estimator=estimator, rng=rng)


def _intervals(
    estimate_D: np.ndarray,
    bootstrap: Iterable[np.ndarray],
    left_out_DF: np.ndarray,
    paged: PageVariance | None,
    level: float,
    family_M: np.ndarray,
) -> dict[str, np.ndarray]:
    """Standard error of the estimate, and an interval on Fisher's z with Student's t of families - 1 degrees.

    Families of uneven size count as (sum n)^2 / sum n^2 equal ones: so many draws understate a variance by 1 / n
    (Carter, Schnepel, Steigerwald, Rev. Econ. Stat. 99, 2017). Where one family holds a fifth of the models the
    bootstrap is still too narrow in simulation (84 to 91 % for 90 %) while leaving out one family at a time is not (89
    to 93 %), so the larger of the two standard errors is taken.
    """
    from scipy.special import stdtrit

    size_F = np.bincount(family_M)
    clusters, n_families = size_F.sum() ** 2 / (size_F**2).sum(), len(size_F)
    drawn, left_out = np.sqrt(clusters / (clusters - 1)), (n_families - 1) / np.sqrt(n_families)
    spread = [(drawn * _deviation(rho_DR), drawn * _deviation(fisher(rho_DR))) for rho_DR in bootstrap]
    stderr_D, stderr_z_D = (np.concatenate(parts) for parts in zip(*spread, strict=True))
    stderr_D = np.fmax(stderr_D, left_out * _deviation(left_out_DF))
    stderr_z_D = np.fmax(stderr_z_D, left_out * _deviation(fisher(left_out_DF)))
    if paged is None:
        paged_D, paged_z_D, t_D = np.full(len(estimate_D), np.nan), 0.0, stdtrit(n_families - 1, (1 + level) / 2)
    else:
        paged_D, paged_z_D = np.sqrt(paged.plain_D), np.sqrt(paged.fisher_D)
        t_D = stdtrit(_freedom(stderr_z_D, n_families, paged_z_D, paged.freedom_D), (1 + level) / 2)
    z_D, reach_D = fisher(estimate_D), t_D * np.hypot(stderr_z_D, paged_z_D)
    return {
        "stderr": np.hypot(stderr_D, np.nan_to_num(paged_D)),
        "page_stderr": paged_D,
        "ci_low": np.tanh(z_D - reach_D),
        "ci_high": np.tanh(z_D + reach_D),
    }


def _freedom(stderr_D: np.ndarray, n_families: int, paged_D: np.ndarray, freedom_D: np.ndarray) -> np.ndarray:
    """Degrees of freedom of a sum of two variances, one of them from few pages (Satterthwaite, Biometrics 2, 1946)."""
    families_D, of_pages_D = stderr_D**2, paged_D**2
    parts_D = families_D**2 / (n_families - 1) + of_pages_D**2 / freedom_D
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(of_pages_D > 0, (families_D + of_pages_D) ** 2 / parts_D, n_families - 1)


def _deviation(value_DR: np.ndarray) -> np.ndarray:
    """Standard deviation over the replicates that are defined; NaN where fewer than two are."""
    known_DR = ~np.isnan(value_DR)
    n_D = known_DR.sum(axis=1)
    mean_D = np.where(known_DR, value_DR, 0).sum(axis=1, dtype=np.float64) / np.maximum(n_D, 1)
    square_D = (np.where(known_DR, value_DR - mean_D[:, None], 0) ** 2).sum(axis=1)
    return np.where(n_D > 1, np.sqrt(square_D / np.maximum(n_D - 1, 1)), np.nan)


def _shrunken(estimate_D: np.ndarray, left_out_DF: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    """Empirical-Bayes estimates: Fisher's z of domains around their group, of groups around the pool (normal-normal).

    The noise that counts is that of a domain *relative to its group*, since an unlucky set of models moves all domains
    together; it comes from leaving out one family at a time.
    """
    z_D, z_DF = fisher(estimate_D), fisher(left_out_DF).astype(np.float64)
    group_D = np.zeros(len(z_D), int) if groups is None else np.unique(list(groups), return_inverse=True)[1]
    # A domain without an estimate, with or without some family, is left as it is.
    usable_D = ~(np.isnan(z_D) | np.isnan(z_DF).any(axis=1))
    n_groups = group_D.max() + 1
    centre_G, variance_G, shift_D = np.full(n_groups, np.nan), np.full(n_groups, np.nan), np.full(len(z_D), np.nan)
    for group in np.unique(group_D[usable_D]):
        inside = np.flatnonzero((group_D == group) & usable_D)
        relative_DF = z_DF[inside] - z_DF[inside].mean(axis=0)
        noise_D = (relative_DF.shape[1] - 1) * relative_DF.var(axis=1)
        centre_G[group] = z_D[inside].mean()
        signal = max(0.0, z_D[inside].var(ddof=1) - noise_D.mean()) if len(inside) > 1 else 0.0
        variance_G[group] = (signal + noise_D.mean()) / len(inside)
        shift_D[inside] = _kept(signal, noise_D) * (z_D[inside] - centre_G[group])
    known = ~np.isnan(centre_G)
    between = max(0.0, centre_G[known].var(ddof=1) - variance_G[known].mean()) if known.sum() > 1 else 0.0
    pool = centre_G[known].mean() if known.any() else 0.0
    centre_G = pool + _kept(between, variance_G) * (centre_G - pool)
    return np.where(usable_D, np.tanh(centre_G[group_D] + shift_D), estimate_D)


def _kept(signal: float, noise: np.ndarray) -> np.ndarray:
    """How much of a deviation is signal, by variances; nothing where there is no signal."""
    return signal / (signal + noise) if signal > 0 else np.zeros_like(noise)
