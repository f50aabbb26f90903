"""The mixture of every target, as rows of ``pretraining_mixture``: estimates, availability, policy and verdict.

A corpus that is not at hand (imported losses) has no token counts: its domains then count as equally large, and the
decisions rest on that.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase

import numpy as np
import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.mixture.caps import availability_caps
from ppl_assets.mixture.decision import Candidates, mix
from ppl_assets.mixture.objective import Objective
from ppl_assets.study import schema

# Tokens that every domain is taken to hold where the study has no text to count them in.
_EQUAL_TOKENS = 1_000_000


def mixture_rows(
    settings: schema.Mixture,
    *,
    targets: Iterable[str],
    estimator: str,
    gate: bool,
    domains: pl.DataFrame,
    estimates: pl.DataFrame,
    verdicts: pl.DataFrame,
) -> pl.DataFrame:
    """Rows of ``pretraining_mixture``, one per target and domain of the catalog.

    Args:
        estimator: whose estimates decide.
        gate: whether a verdict of ``abstain`` makes the mixture fall back to the pool's own distribution.
        domains, estimates, verdicts: the tables ``domains``, ``correlation_estimates`` and ``signal_gate``.

    Raises:
        InputError: nothing is allowed, or what is allowed holds less than the budget.
    """
    names = domains["domain"].to_list()
    tokens_D = domain_tokens(domains)
    allowed_D = (domains["policy"] == "allow").to_numpy()
    budget = settings.budget_tokens or round(float(settings.keep or 1) * tokens_D[allowed_D].sum())
    denied = domains.filter(pl.col("policy") != "allow").select("domain", "policy_reason")
    caps_D = availability_caps(
        tokens_D,
        budget=budget,
        max_epochs=settings.max_epochs,
        overrides=epochs_by_domain(settings, names),
        domains=names,
    )
    verdict_of = dict(verdicts.select("target", "verdict").iter_rows())
    frames = []
    for target in targets:
        chosen = estimates.filter((pl.col("target") == target) & (pl.col("estimator") == estimator))
        joined = domains.select("domain").join(chosen, on="domain", how="left", maintain_order="left")
        candidates = Candidates(
            domains=names,
            estimate_D=joined["estimate"].fill_null(np.nan).to_numpy(),
            cap_D=caps_D,
            pool_D=tokens_D,
            stderr_D=joined["stderr"].fill_null(np.nan).to_numpy(),
            excluded={name: f"policy: {reason}" for name, reason in denied.iter_rows()},
        )
        verdict = verdict_of[target] if gate else None
        frames.append(mix(candidates, budget=budget, verdict=verdict, objective=objective(settings)).frame(target))
    return pl.concat(frames)


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


def objective(settings: schema.Mixture) -> Objective:
    """What the study asks the mixture to be best at."""
    return Objective(
        projection=settings.projection,
        lower_confidence=settings.lower_confidence,
        temperature=settings.temperature,
        safety_margin=settings.safety_margin,
    )
