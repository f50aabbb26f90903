"""Does the evidence carry a choice at all? Decided per target, before anything expensive.

Three questions. Do domains differ by more than noise allows (`heterogeneity_p`)? Would other families say the same
(`reliability`)? Does choosing predict held-out families better than the pool's mean loss (`delta_r2`)? All are about
what a domain says beyond the pool's mean loss: that better models have lower losses everywhere needs no selection.

Heterogeneity is tested by permuting families' residual errors (Freedman and Lane, Journal of Business and Economic
Statistics 1, 1983), one observation per family, which keeps every dependence between domains and inside families.
Reliability is the Spearman-Brown corrected correlation, across domains, of estimates from complementary halves of the
families.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ppl_assets.estimation.domain_scores import (
    centred_families,
    centred_scores,
    family_means,
    mean_loss,
    partial,
    residual,
)
from ppl_assets.estimation.independence import effective_models
from ppl_assets.estimation.inputs import canonical_order, family_index, loss_matrix, single_target
from ppl_assets.estimation.rank_prediction import rank_prediction
from ppl_assets.estimation.resampling import half_weights, replicate_correlations

STANDING_OUT = 0.1  # share of domains in the statistic of heterogeneity
Verdict = Literal["select", "weak", "abstain"]


@dataclass(frozen=True, kw_only=True)
class GateVerdict:
    """`verdict` with its `reason`, and the numbers behind: models, a correlation, a p-value, a difference of R2."""

    verdict: Verdict
    reason: str
    effective_models: float
    reliability: float
    heterogeneity_p: float
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
    alpha: float = 0.05,
    reliability_floor: float = 0.3,
) -> GateVerdict:
    """Say ``select``, ``weak`` or ``abstain`` for one target; arguments as in `estimate_domains`.

    ``abstain`` unless domains differ beyond noise at level `alpha`; ``select`` if, besides, halves of the families
    agree (`reliability_floor`, over `pairs` random halvings) and held-out ranks are predicted better than from the
    mean loss.

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
    p_value = _heterogeneity(x_MD, y_M, family_M, permutations, rng)
    reliability = _reliability(x_MD, y_M, family_M, pairs, rng)
    gain = rank_prediction(x_MD, y_M, families=labels).delta_r2
    effective = effective_models(y_M, families=labels)
    verdict, reason = _decide(p_value, reliability, gain, effective, alpha, reliability_floor)
    return GateVerdict(
        verdict=verdict,
        reason=reason,
        effective_models=effective,
        reliability=reliability,
        heterogeneity_p=p_value,
        delta_r2=gain,
    )


def _decide(
    p_value: float, reliability: float, gain: float, effective: float, alpha: float, floor: float
) -> tuple[Verdict, str]:
    size = f"about {effective:.0f} independent models"
    if not p_value <= alpha:
        return "abstain", (
            f"With {size}, the differences between domains are no larger than chance would make them "
            f"(p = {p_value:.2f}), so choosing among them would be choosing noise."
        )
    if not reliability >= floor:
        return "weak", (
            f"Domains differ (p = {p_value:.3f}), but two halves of the model families agree too little on which ones "
            f"(reliability {reliability:.2f}, {floor:.2f} needed), so expect the choice to change with the models."
        )
    if not gain > 0:
        return "weak", (
            f"Domains differ and halves of the families agree (reliability {reliability:.2f}), but the chosen domains "
            f"predict unseen families no better than the mean loss does (R2 {gain:+.3f}), so expect little."
        )
    return "select", (
        f"With {size}, domains differ beyond chance (p = {p_value:.3f}), halves of the families agree on which "
        f"(reliability {reliability:.2f}), and choosing predicts unseen families better (R2 {gain:+.3f})."
    )


def _heterogeneity(
    x_MD: np.ndarray, y_M: np.ndarray, family_M: np.ndarray, permutations: int, rng: np.random.Generator
) -> float:
    """p-value of "no domain says anything beyond the pool's mean loss", by permutation.

    The statistic is the mean absolute partial correlation of the tenth of the domains that stand out most: a signal
    carried by one kind of text in ten is not drowned by the other nine.

    Permuted are the families' residuals of the target (Freedman and Lane, 1983); all domains move together, so their
    dependence is kept. A family without a column counts as average there. NaN below 4 families.
    """
    everyone = np.ones((len(x_MD), 1), bool)
    y_F1, pool_F1 = (
        centred_families(family_means(centred_scores(values_M[:, None], "normal"), everyone, family_M))
        for values_M in (y_M, mean_loss(x_MD))
    )
    if len(y_F1) < 4:
        return float("nan")
    x_FD = centred_families(family_means(centred_scores(x_MD, "normal"), ~np.isnan(x_MD), family_M))
    x_FD, y_F = residual(x_FD, pool_F1), residual(y_F1, pool_F1)[:, 0]
    norm_D = np.sqrt((x_FD**2).sum(axis=0))
    unit_FD = x_FD[:, norm_D > 0] / norm_D[norm_D > 0]
    standing_out = max(1, round(STANDING_OUT * unit_FD.shape[1]))

    def statistic(target_F: np.ndarray) -> float:
        rho_D = np.abs(target_F @ unit_FD) / np.sqrt(max((target_F**2).sum(), np.finfo(float).tiny))
        return float(np.partition(rho_D, -standing_out)[-standing_out:].mean())

    observed = statistic(y_F)
    permuted_R = np.array(
        [statistic(residual(rng.permutation(y_F)[:, None], pool_F1)[:, 0]) for _ in range(permutations)]
    )
    # The identity reproduces the observed value up to rounding: count it as reached.
    return float((1 + (permuted_R >= observed * (1 - 1e-12)).sum()) / (1 + permutations))


def _reliability(
    x_MD: np.ndarray, y_M: np.ndarray, family_M: np.ndarray, pairs: int, rng: np.random.Generator
) -> float:
    """Mean correlation between halves of the families of the estimates given mean loss, stepped up to the full pool."""
    half_MR = half_weights(family_M, pairs, rng).reshape(len(x_MD), -1)
    pool_M = mean_loss(x_MD)
    blocks = [
        partial(rho[0], rho[1], cross[1])
        for _, rho, cross in replicate_correlations(x_MD, np.stack([y_M, pool_M]), half_MR, "spearman")
    ]
    given_DR = np.concatenate(blocks)
    given_DR = given_DR[~np.isnan(given_DR).any(axis=1)]
    if len(given_DR) < 3:
        return float("nan")
    first, second = given_DR[:, :pairs], given_DR[:, pairs:]
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        agreement = (first * second).sum(axis=0) / np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    mean = float(np.nanmean(agreement)) if not np.isnan(agreement).all() else float("nan")
    return 2 * mean / (1 + mean) if mean > -1 else float("nan")
