"""Which family of models an estimate hangs on: every estimate again, without one family at a time.

Quantity: the study's own estimate of each domain over the models of all other families, with errors made anew from
their scores (an error of several tasks is standardised over the models that it is taken over). No resampling: this is
what the estimate would have been. Axes: F families left out, D domains.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.estimation import rank_correlation
from ppl_assets.estimation.domain_scores import point_estimate
from ppl_assets.estimation.evidence import Evidence, errors_of, for_target, on_domains
from ppl_assets.estimation.inputs import MIN_MODELS
from ppl_assets.estimation.scores import Estimator
from ppl_assets.study.schema import Target

# Estimators that inference (intervals, q-values, stability) is made for, as the room names their scores.
WITH_INFERENCE: dict[str, Estimator] = {"gls": "gls", "gumbel": "gumbel", "spearmanr": "spearman"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Influence:
    """`estimate_D` over all models, and `left_out_FD` without each of `families`; NaN where there is none.

    `domains` are those that have an estimate over all models.
    """

    domains: tuple[str, ...]
    families: tuple[str, ...]
    estimate_D: np.ndarray
    left_out_FD: np.ndarray

    @property
    def strongest_D(self) -> np.ndarray:
        """Index of the family whose absence moves each domain's estimate most; -1 where no absence can be judged."""
        change_FD = np.nan_to_num(np.abs(self.left_out_FD - self.estimate_D), nan=-1.0)
        return np.where(change_FD.max(axis=0) < 0, -1, change_FD.argmax(axis=0))


def estimate_of(evidence: Evidence, estimator: str) -> np.ndarray:
    """The study's estimate of every domain; `evidence` is that of one target (`for_target`)."""
    if estimator in WITH_INFERENCE:
        return point_estimate(evidence.bpb_MD, evidence.error_M, WITH_INFERENCE[estimator])
    estimate: np.ndarray = getattr(rank_correlation, estimator)(evidence.bpb_MD, evidence.error_M)
    return estimate


def without_family(evidence: Evidence, family: str) -> Evidence:
    """The same without the models of a family.

    Raises:
        InputError: no model is of that family.
    """
    kept = [index for index, name in enumerate(evidence.families) if name != family]
    if len(kept) == len(evidence.families):
        known = ", ".join(sorted(set(evidence.families)))
        raise InputError(f"family {family!r} has no model in this study; expected one of {known}")
    return _rows(evidence, kept)


def family_influence(
    evidence: Evidence,
    scores: pl.DataFrame,
    *,
    name: str,
    targets: Mapping[str, Target],
    minimum_models: int,
    estimator: str,
) -> Influence:
    """Estimates for one target with and without each family.

    Args:
        evidence: losses of all models.
        scores: rows of ``benchmark_scores``.
        name, targets: the target, and what the study says of it and of those that it is a contrast to.
        minimum_models, estimator: the study's.
    """
    full = _with_errors(evidence, scores, name, targets, minimum_models)
    families = tuple(sorted(set(full.families)))
    compared = on_domains(evidence, np.flatnonzero(np.isin(evidence.domains, full.domains)))
    left_out = [_left_out(compared, family, scores, name, targets, estimator) for family in families]
    return Influence(
        domains=full.domains,
        families=families,
        estimate_D=estimate_of(full, estimator),
        left_out_FD=np.stack(left_out),
    )


def _left_out(
    evidence: Evidence, family: str, scores: pl.DataFrame, name: str, targets: Mapping[str, Target], estimator: str
) -> np.ndarray:
    """Estimates without a family; NaN where what is left has none (too few models, or a task that no longer varies)."""
    estimate_D = np.full(len(evidence.domains), np.nan)
    # A task may no longer vary, or too few models be left for any domain: then nothing is known without the family.
    with contextlib.suppress(InputError):
        own = _with_errors(without_family(evidence, family), scores, name, targets, MIN_MODELS)
        estimate_D[np.isin(evidence.domains, own.domains)] = estimate_of(own, estimator)
    return estimate_D


def _with_errors(
    evidence: Evidence, scores: pl.DataFrame, name: str, targets: Mapping[str, Target], minimum_models: int
) -> Evidence:
    """The evidence of a target, its errors made from the scores of these models; whatever their orientation."""
    as_they_are = {each: target.model_copy(update={"allow_reversed": True}) for each, target in targets.items()}
    errors = errors_of(name, as_they_are, scores, evidence, minimum_models=minimum_models)
    return for_target(evidence, errors, name, minimum_models=minimum_models)


def _rows(evidence: Evidence, rows: Sequence[int]) -> Evidence:
    return replace(
        evidence,
        slugs=tuple(evidence.slugs[row] for row in rows),
        families=tuple(evidence.families[row] for row in rows),
        params_M=evidence.params_M[rows],
        bpb_MD=evidence.bpb_MD[rows],
        error_M=evidence.error_M[rows],
    )
