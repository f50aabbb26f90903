"""Estimates, verdicts and predictions as rows of their tables: every target of a study, from one evidence."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from ppl_assets.estimation import rank_correlation
from ppl_assets.estimation.domain_estimates import estimate_domains
from ppl_assets.estimation.evidence import Evidence, for_target, with_errors
from ppl_assets.estimation.gate import signal_gate
from ppl_assets.estimation.influence import WITH_INFERENCE
from ppl_assets.estimation.inputs import MIN_FAMILIES, MIN_MODELS
from ppl_assets.estimation.kinds import estimate_by_kind
from ppl_assets.estimation.rank_prediction import rank_prediction
from ppl_assets.schema import TABLES


def estimate_rows(
    evidence: Evidence,
    errors: pl.DataFrame,
    *,
    targets: Iterable[str],
    minimum_models: int,
    estimator: str,
    seed: int,
    replicates: int,
    level: float,
    top_share: float,
) -> pl.DataFrame:
    """Rows of ``correlation_estimates``: the study's estimator with its inference, and plain Spearman next to it.

    An estimator for which there is no inference stands without it, next to Spearman with its own. A domain with losses
    of too few models stands without any estimate.
    """
    frames = []
    for target in targets:
        own = for_target(evidence, errors, target, minimum_models=minimum_models)
        known_D = (~np.isnan(with_errors(evidence, errors, target).bpb_MD)).sum(axis=0)
        models = pl.DataFrame({"domain": evidence.domains, "models": known_D}, schema_overrides={"models": pl.Int64})
        inferred = estimator if estimator in WITH_INFERENCE else "spearmanr"
        estimates = estimate_domains(
            own.bpb_MD,
            own.error_M,
            families=own.families,
            domains=own.domains,
            models=own.slugs,
            params=None if np.isnan(own.params_M).all() else own.params_M,
            groups=own.groups if len(set(own.groups)) > 1 else None,
            pages=own.pages,
            seed=seed,
            replicates=replicates,
            level=level,
            top_share=top_share,
            estimator=WITH_INFERENCE[inferred],
        )
        frames.append(_frame(target, inferred, own, models, {name: getattr(estimates, name) for name in _inferred()}))
        for other in {estimator, "spearmanr"} - {inferred}:
            point = getattr(rank_correlation, other)(own.bpb_MD, own.error_M)
            frames.append(_frame(target, other, own, models, {"estimate": point}))
    return pl.concat(frames)


def kind_rows(
    evidence: Evidence,
    errors: pl.DataFrame,
    *,
    targets: Iterable[str],
    minimum_models: int,
    estimator: str,
    top_share: float,
) -> pl.DataFrame:
    """Rows of ``kind_estimates``: none for a target whose models are of one kind, or too few of one kind, nor for a
    domain with losses of too few models."""
    schema = TABLES["kind_estimates"].polars_schema
    frames = [schema.to_frame()]
    for target in targets:
        own = for_target(evidence, errors, target, minimum_models=minimum_models)
        families = {kind: {f for f, k in zip(own.families, own.kinds, strict=True) if k == kind} for kind in own.kinds}
        if len(families) < 2 or any(
            len(families[kind]) < MIN_FAMILIES or own.kinds.count(kind) < MIN_MODELS for kind in families
        ):
            continue
        found = estimate_by_kind(
            own.bpb_MD,
            own.error_M,
            kinds=own.kinds,
            families=own.families,
            estimator=WITH_INFERENCE.get(estimator, "spearman"),
            top_share=top_share,
        )
        for kind, estimate in {**found.by_kind, "combined": found.combined}.items():
            columns = {
                "target": target,
                "kind": kind,
                "domain": own.domains,
                "estimate": estimate,
                "weight": found.weight.get(kind, 1.0),
                "models": own.kinds.count(kind) or len(own.kinds),
            }
            frames.append(pl.DataFrame(columns, schema=schema))
    return pl.concat(frames).with_columns(pl.col("estimate").fill_nan(None))


def gate_rows(
    evidence: Evidence, errors: pl.DataFrame, *, targets: Iterable[str], minimum_models: int, seed: int
) -> pl.DataFrame:
    """Rows of ``signal_gate``."""
    rows = []
    for target in targets:
        own = for_target(evidence, errors, target, minimum_models=minimum_models)
        verdict = signal_gate(own.bpb_MD, own.error_M, families=own.families, models=own.slugs, seed=seed)
        rows.append(
            {"target": target}
            | {name: getattr(verdict, name) for name in TABLES["signal_gate"].by_name if name != "target"}
        )
    return pl.DataFrame(rows, schema=TABLES["signal_gate"].polars_schema).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )


def prediction_rows(
    evidence: Evidence, errors: pl.DataFrame, *, targets: Iterable[str], minimum_models: int, top_share: float
) -> pl.DataFrame:
    """Rows of ``rank_prediction``."""
    frames = []
    for target in targets:
        own = for_target(evidence, errors, target, minimum_models=minimum_models)
        found = rank_prediction(
            own.bpb_MD,
            own.error_M,
            families=own.families,
            models=own.slugs,
            params=None if np.isnan(own.params_M).any() else own.params_M,
            top_share=top_share,
        )
        unknown = np.full(len(own.slugs), np.nan)
        columns = {
            "target": [target] * len(own.slugs),
            "slug": own.slugs,
            "error": own.error_M,
            "predicted_rank": found.predicted_rank["ours"],
            "actual_rank": found.actual_rank,
            "held_out_family": found.held_out_family,
            "mean_loss_rank": found.predicted_rank["mean_loss"],
            "size_rank": found.predicted_rank.get("size", unknown),
            "pca_rank": found.predicted_rank["pca"],
        }
        frames.append(pl.DataFrame(columns, schema=TABLES["rank_prediction"].polars_schema))
    return pl.concat(frames).with_columns(pl.col(pl.Float64).fill_nan(None))


def _inferred() -> list[str]:
    """What there is of an estimate besides its key and the number of models."""
    schema = TABLES["correlation_estimates"].by_name
    return [name for name in schema if name not in ("target", "estimator", "domain", "models")]


def _frame(
    target: str, estimator: str, own: Evidence, models: pl.DataFrame, columns: dict[str, np.ndarray]
) -> pl.DataFrame:
    """A row for every domain of `models`; columns that an estimator or a domain does not have are null, and so is what
    is undefined."""
    schema = TABLES["correlation_estimates"].polars_schema
    found = pl.DataFrame({"domain": own.domains, **columns})
    known = models.join(found, on="domain", how="left", maintain_order="left").to_dict()
    named = {"target": target, "estimator": estimator} | known
    frame = pl.DataFrame({name: named.get(name) for name in schema}, schema_overrides=schema, strict=False)
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))
