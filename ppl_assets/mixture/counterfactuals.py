"""What would have been decided had something been otherwise: estimated, judged and mixed anew, nothing approximated.

A counterfactual changes what a decision rests on, leaves out a family of models or allows other epochs, and makes the
decision for one target again, by the code that made the real one and with the same seed. What training on the result
would bring, it knows no more than the real one does.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.estimation.evidence import errors_of, loss_evidence, with_pages
from ppl_assets.estimation.tables import estimate_rows, gate_rows
from ppl_assets.likelihood.page_losses import PageLosses
from ppl_assets.mixture.tables import mixture_tables
from ppl_assets.study import Study, schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What a decision rests on: the study and the tables of these names; `before` is that of `mixture_tables`.

    `pages`: losses of the models scored here by page, made only where estimates are made anew.
    """

    study: Study
    models: pl.DataFrame
    domains: pl.DataFrame
    domain_logliks: pl.DataFrame
    pages: Callable[[], PageLosses]
    benchmark_scores: pl.DataFrame
    correlation_estimates: pl.DataFrame
    signal_gate: pl.DataFrame
    before: pl.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is decided about one domain for one target."""

    verdict: str
    estimate: float | None
    weight: float
    cap: float
    decision: str
    reason: str


def decide_again(grounds: Grounds, target: str) -> dict[str, Decision]:
    """The decision about every domain on these grounds.

    Raises:
        InputError: no mixture is possible on them.
    """
    study = grounds.study.model_copy(
        update={"targets": {target: grounds.study.targets[target]}, "mixture": _alone(grounds.study)}
    )
    mixture = mixture_tables(
        study,
        domains=grounds.domains,
        estimates=grounds.correlation_estimates,
        verdicts=grounds.signal_gate,
        before=grounds.before.filter(pl.col("target") == target),
    )["pretraining_mixture"]
    verdict = grounds.signal_gate.filter(pl.col("target") == target)["verdict"].item()
    facts = mixture.select("domain", "estimate", "weight", "cap", "decision", "reason")
    return {row.pop("domain"): Decision(verdict=verdict, **row) for row in facts.iter_rows(named=True)}


def without_family(grounds: Grounds, family: str, target: str) -> Grounds:
    """The grounds of a target without the models of a family: errors, estimates and verdict are made anew.

    Raises:
        InputError: no model is of that family, or too few are left.
    """
    families = sorted(set(grounds.models["family"]))
    if family not in families:
        raise InputError(f"family {family!r} has no model in this study; expected one of {', '.join(families)}")
    study = grounds.study
    models = grounds.models.filter(pl.col("family") != family)
    losses = grounds.domain_logliks.join(models.select("slug"), on="slug", how="semi")
    evidence = loss_evidence(models, grounds.domains, losses)
    minimum_models = study.estimation.minimum_models
    errors = errors_of(target, study.targets, grounds.benchmark_scores, evidence, minimum_models=minimum_models)
    estimates = estimate_rows(
        with_pages(evidence, grounds.pages()),
        errors,
        targets=[target],
        minimum_models=minimum_models,
        estimator=study.estimation.estimator,
        seed=study.seed,
        replicates=study.estimation.replicates,
        level=study.estimation.level,
        top_share=study.mixture.top_share,
    )
    verdicts = gate_rows(evidence, errors, targets=[target], minimum_models=minimum_models, seed=study.seed)
    return replace(grounds, models=models, domain_logliks=losses, correlation_estimates=estimates, signal_gate=verdicts)


def with_epochs(grounds: Grounds, epochs: float) -> Grounds:
    """The grounds with every domain allowed to be repeated `epochs` times."""
    caps = {"max_epochs": epochs, "max_epochs_by_domain": {}}
    mixture = grounds.study.mixture.model_copy(update=caps)
    return replace(grounds, study=grounds.study.model_copy(update={"mixture": mixture}))


def _alone(study: Study) -> schema.Mixture:
    """The study's rules for a mixture, without those for several targets together."""
    return study.mixture.model_copy(update={"combine": (), "target_weights": {}, "use": None})
