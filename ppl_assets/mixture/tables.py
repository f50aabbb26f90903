"""The mixtures of a study as rows of tables: from estimates, availability, policy and verdicts.

A corpus that is not at hand (imported losses) has no token counts: its domains then count as equally large, and the
decisions rest on that.
"""

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.mixture.caps import availability_caps
from ppl_assets.mixture.changes import change_rows
from ppl_assets.mixture.decision import Candidates, Mixture
from ppl_assets.mixture.every_mixture import Made, Wanted, every_mixture
from ppl_assets.mixture.group_bounds import GroupBound, members
from ppl_assets.mixture.objective import Objective
from ppl_assets.mixture.projection import Vector
from ppl_assets.mixture.several_targets import Yardstick
from ppl_assets.schema import TABLES
from ppl_assets.study import Study, schema

# Tokens that every domain is taken to hold where the study has no text to count them in.
_EQUAL_TOKENS = 1_000_000
# What a bound may be about, and the column of ``domains`` that says it.
_ATTRIBUTES = {"language": "language", "group": "domain_group", "license": "license", "maker": "maker"}


def mixture_tables(
    study: Study,
    *,
    domains: pl.DataFrame,
    estimates: pl.DataFrame,
    verdicts: pl.DataFrame,
    before: pl.DataFrame,
) -> dict[str, pl.DataFrame]:
    """Rows of ``pretraining_mixture``, ``mixture_gains``, ``shadow_prices`` and ``mixture_changes``.

    Args:
        domains, estimates, verdicts: the tables ``domains``, ``correlation_estimates`` and ``signal_gate``.
        before: the mixture to compare with and to stay near (`changes.mixture_before`).

    Raises:
        InputError: nothing is allowed, what is allowed holds less than the budget, or bounds name no group or cannot
            hold together.
    """
    wanted = _wanted(study, domains, estimates, verdicts, before)
    made = every_mixture(wanted)
    mixtures = mixture_rows(made, used=study.used_mixture)
    return {
        "pretraining_mixture": mixtures,
        "mixture_gains": gain_rows(wanted, made),
        "shadow_prices": price_rows(made),
        # Which mixture a point of the front is depends on the others: there is nothing to compare it with.
        "mixture_changes": change_rows(mixtures.filter(pl.col("kind") != "pareto"), before),
    }


def mixture_rows(made: Sequence[Made], *, used: str | None) -> pl.DataFrame:
    """Rows of ``pretraining_mixture``; `used` is the name of the mixture to train on."""
    return pl.concat(
        each.mixture.frame(each.name).with_columns(kind=pl.lit(each.kind), used=pl.lit(each.name == used))
        for each in made
    )


def price_rows(made: Sequence[Made]) -> pl.DataFrame:
    """Rows of ``shadow_prices``."""
    rows = [(each.name, price.rule, price.price, price.sentence) for each in made for price in each.prices]
    return pl.DataFrame(rows, schema=TABLES["shadow_prices"].polars_schema, orient="row")


def _wanted(
    study: Study, domains: pl.DataFrame, estimates: pl.DataFrame, verdicts: pl.DataFrame, before: pl.DataFrame
) -> Wanted:
    """What the study asks for, in the terms of the room."""
    settings, names = study.mixture, domains["domain"].to_list()
    tokens_D = domain_tokens(domains)
    allowed_D = (domains["policy"] == "allow").to_numpy()
    budget = settings.budget_tokens or round(float(settings.keep or 1) * tokens_D[allowed_D].sum())
    denied = domains.filter(pl.col("policy") != "allow").select("domain", "policy_reason")
    labels = {attribute: domains[column].to_list() for attribute, column in _ATTRIBUTES.items()}
    cap_D = availability_caps(
        tokens_D,
        budget=budget,
        max_epochs=settings.max_epochs,
        overrides=epochs_by_domain(settings, names),
        domains=names,
    )
    fixed = Candidates(
        domains=names,
        estimate_D=np.full(len(names), np.nan),
        cap_D=cap_D,
        pool_D=tokens_D,
        labels=labels,
        excluded={name: f"policy: {reason}" for name, reason in denied.iter_rows()},
    )
    by_target = {target: _with_estimates(fixed, study, target, estimates) for target in study.targets}
    verdict_of = dict(verdicts.select("target", "verdict").iter_rows())
    return Wanted(
        by_target=by_target,
        verdicts={target: verdict_of[target] if study.estimation.gate else None for target in by_target},
        budget=budget,
        objective=objective(settings, group_bounds(settings, labels)),
        combine=settings.combine,
        target_weights=settings.target_weights or None,
        front_points=settings.front_points,
        previous=_previous(before, names),
    )


def _with_estimates(fixed: Candidates, study: Study, target: str, estimates: pl.DataFrame) -> Candidates:
    """The candidates with a target's estimates by the study's estimator."""
    own = (pl.col("target") == target) & (pl.col("estimator") == study.estimation.estimator)
    domains = pl.DataFrame({"domain": fixed.domains})
    rows = domains.join(estimates.filter(own), on="domain", how="left", maintain_order="left")
    estimate_D, stderr_D = (rows[column].fill_null(np.nan).to_numpy() for column in ("estimate", "stderr"))
    return replace(fixed, estimate_D=estimate_D, stderr_D=stderr_D)


def _previous(before: pl.DataFrame, names: list[str]) -> dict[str, Vector]:
    """Weights of the mixtures before, by name; a fallback was no choice, so there is nothing to stay near."""
    previous = {}
    for (name,), rows in before.group_by("target", maintain_order=True):
        if not (rows["decision"] == "fallback").any():
            weight = dict(rows.select("domain", "weight").iter_rows())
            previous[str(name)] = np.array([weight.get(domain, 0.0) for domain in names])
    return previous


def gain_rows(wanted: Wanted, made: Sequence[Made]) -> pl.DataFrame:
    """Rows of ``mixture_gains``: what each mixture brings to each target."""
    heard = wanted.heard()
    rows = []
    for target, candidates in wanted.by_target.items():
        yardstick = None
        if target in heard:
            yardstick = Yardstick.of({target: candidates}, budget=wanted.budget, objective=wanted.objective)
        for each in made:
            expected = _expected(each.mixture, candidates.estimate_D)
            gain = yardstick.gains(each.mixture)[target] if yardstick is not None and expected is not None else None
            rows.append((each.name, each.kind, target, each.target_weight.get(target, 0.0), expected, gain))
    return pl.DataFrame(rows, schema=TABLES["mixture_gains"].polars_schema, orient="row").with_columns(
        pl.col("gain").fill_nan(None)
    )


def _expected(mixture: Mixture, estimate_D: Vector) -> float | None:
    """Sum of weight times estimate; None where a domain of the mixture has no estimate."""
    chosen = mixture.weight_D > 0
    total = float(mixture.weight_D[chosen] @ estimate_D[chosen])
    return None if np.isnan(total) else total


def group_bounds(settings: schema.Mixture, labels: dict[str, list[str]]) -> tuple[GroupBound, ...]:
    """The study's floors and ceilings.

    Raises:
        InputError: a bound names a label that no domain has.
    """
    bounds = tuple(GroupBound(**bound.model_dump()) for bound in settings.bounds)
    try:
        members(bounds, labels, len(labels["group"]))
    except InputError as error:
        raise InputError(f"study field mixture.bounds: {error}") from error
    return bounds


def domain_tokens(domains: pl.DataFrame) -> np.ndarray:
    """Reference tokens of each domain; equal counts where none is known.

    Raises:
        InputError: some domains have a count and others have none.
    """
    unknown = domains.filter(pl.col("tokens").is_null())["domain"].to_list()
    if len(unknown) == domains.height:
        return np.full(domains.height, float(_EQUAL_TOKENS))
    if unknown:
        raise InputError(
            f"domain {unknown[0]!r}: tokens are unknown, while other domains' are known; expected all or none"
        )
    return domains["tokens"].to_numpy().astype(np.float64)


def epochs_by_domain(settings: schema.Mixture, names: list[str]) -> dict[str, float]:
    """Epochs of the domains that a pattern of the study overrides; the last pattern that matches decides.

    Raises:
        InputError: a pattern that matches no domain.
    """
    epochs: dict[str, float] = {}
    for pattern, allowed in settings.max_epochs_by_domain.items():
        matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching:
            raise InputError(f"study field mixture.max_epochs_by_domain: {pattern!r} matches no domain")
        epochs |= dict.fromkeys(matching, allowed)
    return epochs


def objective(settings: schema.Mixture, bounds: tuple[GroupBound, ...]) -> Objective:
    """What the study asks the mixtures to be best at."""
    return Objective(
        projection=settings.projection,
        lower_confidence=settings.lower_confidence,
        temperature=settings.temperature,
        safety_margin=settings.safety_margin,
        bounds=bounds,
        churn=settings.churn,
        hysteresis=settings.hysteresis,
    )
