"""How many independent observations a pool of models amounts to, and which of its models are the same one twice.

Quantity: Kish's effective sample size under equal weights, ``M / (1 + (sum n_f^2 / M - 1) rho)``, where rho is the
intraclass correlation of the ranked values over families (one-way analysis of variance, floored at 0). Unit: models.
It takes families as given and as independent of each other; makers who train on the same crawl are less independent
than it says.
"""

from collections.abc import Sequence

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.estimation.inputs import errors_by_target, family_index


def intraclass_correlation(values_M: np.ndarray, families: Sequence[str]) -> float:
    """Share of the variance of ranks that lies between families, in 0..1; NaN where every family has one model."""
    family_M = family_index(families, len(values_M))
    values = errors_by_target(values_M, len(family_M))[0]
    rank_M = np.sign(values[:, None] - values[None, :]).sum(axis=1)
    count_F = np.bincount(family_M)
    n_models, n_families = len(rank_M), len(count_F)
    if n_families == n_models:
        return float("nan")
    mean_F = np.bincount(family_M, rank_M) / count_F
    inside = ((rank_M - mean_F[family_M]) ** 2).sum() / (n_models - n_families)
    between = (count_F * mean_F**2).sum() / (n_families - 1)
    typical = (n_models - (count_F**2).sum() / n_models) / (n_families - 1)
    total = between + (typical - 1) * inside
    return float(np.clip((between - inside) / total, 0, 1)) if total > 0 else 0.0


def effective_models(values_M: np.ndarray, *, families: Sequence[str]) -> float:
    """Independent models that would carry as much as these, for one target's errors (or any value per model).

    Where every family has a single model this is the number of models.

    Raises:
        InputError: values that are not finite or do not fit the families, or fewer than two families.
    """
    rho = intraclass_correlation(values_M, families)
    return _kish(np.unique(list(families), return_counts=True)[1], 0.0 if np.isnan(rho) else rho)


def gain_of_candidate(values_M: np.ndarray, *, families: Sequence[str], candidate: str) -> float:
    """Effective models that one more model of family `candidate` would add; below 1, and less in a large family."""
    rho = intraclass_correlation(values_M, families)
    rho = 0.0 if np.isnan(rho) else rho
    before = np.unique(list(families), return_counts=True)[1]
    after = np.unique([*families, candidate], return_counts=True)[1]
    return _kish(after, rho) - _kish(before, rho)


def _kish(count_F: np.ndarray, rho: float) -> float:
    n_models = count_F.sum()
    return float(n_models / (1 + ((count_F**2).sum() / n_models - 1) * rho))


def duplicates(bpb_MD: np.ndarray, models: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of models with the same losses on every text: the same weights under two names."""
    x_MD = np.asarray(bpb_MD)
    if len(models) != len(x_MD):
        raise InputError(f"models: found {len(models)} names, expected {len(x_MD)}, one per row of the losses")
    first: dict[bytes, str] = {}
    pairs = []
    for model, row in zip(models, x_MD, strict=True):
        key = np.ascontiguousarray(row).tobytes()
        if key in first:
            pairs.append((first[key], model))
        first.setdefault(key, model)
    return pairs
