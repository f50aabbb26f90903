"""Does the evidence carry a choice at all? Decided per target, before anything expensive.

Three questions. Do domains differ by more than noise allows (`heterogeneity_p`)? Would other families say the same
(`reliability`)? Does choosing predict held-out families better than the pool's mean loss (`delta_r2`)? All are about
what a domain says beyond the pool's mean loss: that better models have lower losses everywhere needs no selection.

The first two look at families' contrasts: what a straight line on the mean loss, over all models, leaves of normal
scores of losses and errors, as means of families in units of their noise. A family of one model is noisier than one of
ten; without that unit, permuting families is not fair. Heterogeneity is tested by permuting the errors' contrasts
(Freedman and Lane, Journal of Business and Economic Statistics 1, 1983), which keeps every dependence between domains
and inside families. Reliability is the Spearman-Brown corrected correlation, across domains, of what complementary
halves of the families say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ppl_assets.estimation.domain_scores import centred_scores, family_means, mean_loss
from ppl_assets.estimation.independence import effective_models
from ppl_assets.estimation.inputs import canonical_order, family_index, loss_matrix, single_target
from ppl_assets.estimation.rank_prediction import rank_prediction
from ppl_assets.estimation.resampling import half_weights

STANDING_OUT = 0.1  # share of domains in the statistic of heterogeneity, as in what is selected
NUMBERS = 8_000_000  # correlations of permuted errors held at once, 64 MB
LEAST_FAMILIES = 4  # what is left of three, given the mean loss, is one direction: any two domains agree or oppose
ROUNDING = 1e-9  # norm of a contrast, in units of its noise, that is nothing but rounding
Verdict = Literal["select", "weak", "abstain"]


@dataclass(frozen=True, kw_only=True)
class GateVerdict:
    """`verdict` with its `reason`, and the numbers behind: models, a correlation, a p-value, a difference of R2.

    `reliability` and `heterogeneity_p` are None where fewer than 4 families say nothing of either.
    """

    verdict: Verdict
    reason: str
    effective_models: float
    reliability: float | None
    heterogeneity_p: float | None
    delta_r2: float


def signal_gate(
    bpb_MD: np.ndarray,
    error_M: np.ndarray,
    *,
    families: Sequence[str],
    models: Sequence[str] | None = None,
    seed: int = 0,
    permutations: int = 999,
    pairs: int = 50,
    alpha: float = 0.20,
    reliability_floor: float = 0.1,
) -> GateVerdict:
    """Say ``select``, ``weak`` or ``abstain`` for one target; arguments as in `estimate_domains`.

    ``abstain`` unless domains differ beyond noise at level `alpha` *and* the ranks of held-out families are predicted
    better from the chosen domains than from the mean loss, by more than one model's share of the variance (1 / models).
    Noise passes the first one time in five, the second about as often, both about one time in ten or less. ``select``
    if, besides, halves of the families agree (`reliability_floor`, over `pairs` random halvings), else ``weak``.

    Raises:
        InputError: as `estimate_domains`.
    """
    x_MD = loss_matrix(bpb_MD, models=models)
    y_M = single_target(error_M, len(x_MD), models=models)
    family_M = family_index(families, len(x_MD))
    order = canonical_order(x_MD, y_M, family_M)
    x_MD, y_M, family_M = x_MD[order], y_M[order], family_M[order]
    rng = np.random.default_rng(seed)
    labels = [str(family) for family in family_M]
    gain = rank_prediction(x_MD, y_M, families=labels).delta_r2
    effective = effective_models(y_M, families=labels)
    p_value = reliability = None
    if (n_families := family_M.max() + 1) < LEAST_FAMILIES:
        verdict, reason = _too_few(n_families)
    else:
        contrasts = family_contrasts(x_MD, y_M, family_M)
        p_value = heterogeneity(contrasts, permutations, rng)
        reliability = _reliability(contrasts, pairs, rng)
        verdict, reason = _decide(p_value, reliability, gain, effective, alpha, reliability_floor, 1 / len(y_M))
    return GateVerdict(
        verdict=verdict,
        reason=reason,
        effective_models=effective,
        reliability=reliability,
        heterogeneity_p=p_value,
        delta_r2=gain,
    )


def _too_few(n_families: int) -> tuple[Verdict, str]:
    return "abstain", (
        f"The models come from {n_families} families, and fewer than {LEAST_FAMILIES} cannot show whether domains "
        "differ by more than chance, so no choice among domains can be trusted."
    )


def _decide(
    p_value: float, reliability: float, gain: float, effective: float, alpha: float, floor: float, least_gain: float
) -> tuple[Verdict, str]:
    size = f"about {effective:.0f} independent models"
    if not p_value <= alpha:
        return "abstain", (
            f"With {size}, the differences between domains are no larger than chance would make them "
            f"(p = {p_value:.2f}), so choosing among them would be choosing noise."
        )
    if not gain > least_gain:
        return "abstain", (
            f"Domains may differ (p = {p_value:.3f}), but the chosen ones predict unseen families hardly better than "
            f"the mean loss does (R2 {gain:+.3f}, {least_gain:.3f} needed), so there is nothing to gain from choosing."
        )
    if not reliability >= floor:
        return "weak", (
            f"Domains seem to differ (p = {p_value:.3f}), but two halves of the model families agree too little on "
            f"which ones (reliability {reliability:.2f}, {floor:.2f} needed), so expect the choice to change with the "
            "models."
        )
    return "select", (
        f"With {size}, domains differ (p = {p_value:.3f}), halves of the families agree on which (reliability "
        f"{reliability:.2f}), and choosing predicts unseen families better than chance would (R2 {gain:+.3f})."
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Contrasts:
    """What families' losses `x_FD` and errors `y_F` say beyond the mean loss, in units of their noise.

    `weight_F` and `pool_F` are, in the same units, what a shift of all families and the mean loss itself look like.
    """

    x_FD: np.ndarray
    y_F: np.ndarray
    weight_F: np.ndarray
    pool_F: np.ndarray


def family_contrasts(x_MD: np.ndarray, y_M: np.ndarray, family_M: np.ndarray) -> Contrasts:
    """Residuals of normal scores on those of the mean loss, over models; then means by family, centred and weighted.

    The weight is one over the standard deviation of the errors' mean, ``between + within / models`` by analysis of
    variance. A family without a column counts as average there.
    """
    present_MD, everyone_M1 = ~np.isnan(x_MD), np.ones((len(x_MD), 1), bool)
    x, y, pool = (centred_scores(values, "normal") for values in (x_MD, y_M[:, None], mean_loss(x_MD)[:, None]))
    left_M1 = y - _slope(y, pool, everyone_M1) * pool
    mean_y_F = family_means(left_M1, everyone_M1, family_M)[:, 0]
    mean_x_FD = family_means(x - _slope(x, pool, present_MD) * pool, present_MD, family_M)
    weight_F = _weights(left_M1[:, 0], mean_y_F, family_M)
    known_FD = ~np.isnan(mean_x_FD)
    share_FD = known_FD * weight_F[:, None] ** 2
    centre_D = (share_FD * np.nan_to_num(mean_x_FD)).sum(axis=0) / np.maximum(share_FD.sum(axis=0), 1e-300)
    mean_pool_F = family_means(pool, everyone_M1, family_M)[:, 0]
    return Contrasts(
        x_FD=np.where(known_FD, (mean_x_FD - centre_D) * weight_F[:, None], 0),
        y_F=_without(mean_y_F[None] * weight_F, weight_F)[0],
        weight_F=weight_F,
        pool_F=_without(mean_pool_F[None] * weight_F, weight_F)[0],
    )


def _slope(a_MD: np.ndarray, pool_M1: np.ndarray, present_MD: np.ndarray) -> np.ndarray:
    square_D = (present_MD * pool_M1**2).sum(axis=0)
    return (a_MD * pool_M1).sum(axis=0) / np.where(square_D > 0, square_D, 1)


def _weights(residual_M: np.ndarray, mean_F: np.ndarray, family_M: np.ndarray) -> np.ndarray:
    """One over the standard deviation of families' means, with mean square 1."""
    size_F = np.bincount(family_M)
    n_models, n_families = len(family_M), len(size_F)
    within = ((residual_M - mean_F[family_M]) ** 2).sum() / max(n_models - n_families, 1)
    typical = (n_models - (size_F**2).sum() / n_models) / (n_families - 1)
    between = max(0.0, ((size_F * mean_F**2).sum() / (n_families - 1) - within) / typical)
    weight_F = 1 / np.sqrt(np.maximum(between + within / size_F, np.finfo(float).tiny))
    return weight_F / np.sqrt((weight_F**2).mean())


def _without(values_RF: np.ndarray, along_F: np.ndarray) -> np.ndarray:
    """Rows without their part along a direction; as they are where that is nothing but rounding."""
    square = along_F @ along_F
    return values_RF - np.outer(values_RF @ along_F / square, along_F) if square > ROUNDING**2 else values_RF


def _beyond(values_RF: np.ndarray, contrasts: Contrasts) -> np.ndarray:
    """Rows without a shift of all families and without the mean loss."""
    return _without(_without(values_RF, contrasts.weight_F), contrasts.pool_F)


def heterogeneity(contrasts: Contrasts, permutations: int, rng: np.random.Generator) -> float:
    """p-value of "no domain says anything beyond the pool's mean loss", by permutation.

    The statistic is the mean correlation of the tenth of the domains that rise most with the errors, those that would
    be chosen: a signal carried by one kind of text in ten is not drowned by the other nine. Domains are first smoothed
    toward what they share with others (a direction of ordinary variance keeps half), since noise of one domain alone
    cannot be told from signal. The mean loss is taken out of permuted errors again: what they hold of it correlates
    with no domain, and next to them the errors would look unusual. 1 where domains, or errors, say nothing beyond the
    mean loss.
    """
    x_DF, y_RF = (_beyond(values, contrasts) for values in (contrasts.x_FD.T, contrasts.y_F[None]))
    x_FD = x_DF[np.sqrt((x_DF**2).sum(axis=1)) > ROUNDING].T
    if not x_FD.size or np.sqrt((y_RF**2).sum()) <= ROUNDING:
        return 1.0
    value_F, vector_FF = np.linalg.eigh(x_FD @ x_FD.T)
    value_F = np.maximum(value_F, 0)
    ordinary = value_F.sum() / max((value_F > 1e-9 * value_F.max()).sum(), 1)
    smooth_FF = (vector_FF * (value_F / np.maximum(value_F + ordinary, np.finfo(float).tiny))) @ vector_FF.T
    smooth_FD = smooth_FF @ x_FD
    unit_FD = smooth_FD / np.sqrt((smooth_FD**2).sum(axis=0))
    permuted_RF = np.array([y_RF[0], *(rng.permutation(y_RF[0]) for _ in range(permutations))])
    permuted_RF = _beyond(permuted_RF, contrasts)
    permuted_RF /= np.sqrt(np.maximum((permuted_RF**2).sum(axis=1, keepdims=True), np.finfo(float).tiny))
    places = max(1, round(STANDING_OUT * unit_FD.shape[1]))
    batches = np.array_split(permuted_RF, -(-len(permuted_RF) * unit_FD.shape[1] // NUMBERS) or 1)
    statistic_R = np.concatenate(
        [np.partition(batch @ unit_FD, -places, axis=1)[:, -places:].mean(axis=1) for batch in batches]
    )
    # The identity reproduces the observed value up to rounding: count it as reached.
    return float((statistic_R >= statistic_R[0] * (1 - 1e-12)).sum() / (1 + permutations))


def _reliability(contrasts: Contrasts, pairs: int, rng: np.random.Generator) -> float:
    """Mean agreement of complementary halves of the families across domains, stepped up to all; at least -1."""
    halves = np.moveaxis(half_weights(np.arange(len(contrasts.y_F)), pairs, rng), 2, 0) > 0
    agreement = [_agreement(*(_half(contrasts, half_F) for half_F in half_F2.T)) for half_F2 in halves]
    mean = float(np.mean(agreement))
    return max(2 * mean / (1 + mean), -1.0) if mean > -1 else -1.0


def _agreement(first_D: np.ndarray, second_D: np.ndarray) -> float:
    """Correlation across domains of what two halves say; 0 where one of them does not tell the domains apart."""
    known_D = ~(np.isnan(first_D) | np.isnan(second_D))
    first_D, second_D = first_D[known_D], second_D[known_D]
    if len(first_D) < 2 or min(np.ptp(first_D), np.ptp(second_D)) <= ROUNDING:
        return 0.0
    return float(np.corrcoef(first_D, second_D)[0, 1])


def _half(contrasts: Contrasts, half_F: np.ndarray) -> np.ndarray:
    """Correlations over the families of one half; NaN where a domain, or the error, does not vary there."""
    weight_F = contrasts.weight_F[half_F]
    x_FD, y_F = _without(contrasts.x_FD[half_F].T, weight_F).T, _without(contrasts.y_F[None, half_F], weight_F)[0]
    norm_D, norm = np.sqrt((x_FD**2).sum(axis=0)), np.sqrt(y_F @ y_F)
    known_D = (norm_D > ROUNDING) & (norm > ROUNDING)
    return np.where(known_D, y_F @ x_FD / np.where(known_D, norm_D * norm, 1), np.nan)
