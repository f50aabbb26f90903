"""The mixture of one target: weight, tokens, decision and reason for every domain.

Quantities: weights and caps as shares of the mixture, tokens as integers that sum to the budget. Axis letters: D
domains, C domains that compete, G bounds on groups.
A decision is one of

- `selected`: the domain fills its cap;
- `partial`: it was chosen, but gets less than its cap;
- `not selected`: it gets nothing but its part of the safety margin;
- `excluded`: it could not compete (policy, no estimate, no text); its weight is 0;
- `fallback`: the gate found no evidence that carries a choice, so the pool's own distribution is used.

It does not know what training on a domain does: an estimate is an association over models, not an effect.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ppl_assets.errors import InputError, suggestion
from ppl_assets.mixture.caps import integer_tokens
from ppl_assets.mixture.group_bounds import Bounded, best_within_bounds, members
from ppl_assets.mixture.objective import Objective, best_weights, pool_within_limits
from ppl_assets.mixture.projection import SUM_TOLERANCE, Vector
from ppl_assets.mixture.reasons import Decision, mixture_reasons
from ppl_assets.mixture.stability import Halves, best_near, switching_cost

Verdict = Literal["select", "weak", "abstain"]

# A weight this close to its cap, relative to the cap, fills it: projections are exact to a few 2^-53.
FULL = 1 - 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """D domains that compete for one target. Domains that may not compete stay in, with a reason in `excluded`."""

    domains: Sequence[str]
    """Unique names."""

    estimate_D: Vector
    """Higher is better; NaN where no estimate could be made."""

    cap_D: Vector
    """Largest share of the mixture, 0 or more (`caps.availability_caps`)."""

    pool_D: Vector
    """What the pool holds of each domain, in tokens or as a share: 0 or more."""

    stderr_D: Vector | None = None
    """Standard error of the estimate; needed for a lower-confidence objective."""

    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Attribute (language, topic, ...) -> one label per domain, for bounds on groups."""

    excluded: Mapping[str, str] = field(default_factory=dict)
    """Reason by domain name, for domains that may not be used (policy, licence, retired)."""

    previous_D: Vector | None = None
    """Weights of the mixture to stay near; None where there was none."""

    estimate_name: str = "estimate"
    """What the estimate is called in reasons."""

    def __post_init__(self) -> None:
        """Refuse sizes that differ, repeated or unknown names, and numbers out of range; make vectors float64."""
        names, known = list(self.domains), set(self.domains)
        for field_name in ("estimate_D", "cap_D", "pool_D", "stderr_D", "previous_D"):
            if getattr(self, field_name) is None:
                continue
            vector = np.asarray(getattr(self, field_name), dtype=np.float64)
            object.__setattr__(self, field_name, vector)
            if vector.shape != (len(names),):
                raise InputError(
                    f"{field_name} has shape {vector.shape}: expected one number per domain ({len(names)})"
                )
        if len(known) != len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise InputError(f"domain {twice!r} is given twice: expected unique names")
        for name in self.excluded:
            if name not in known:
                raise InputError(f"{name!r} is excluded but is no domain{suggestion(name, names)}")
        for field_name in ("cap_D", "pool_D", "previous_D"):
            vector = getattr(self, field_name)
            if vector is None:
                continue
            for i in np.flatnonzero(~(np.isfinite(vector) & (vector >= 0))):
                raise InputError(f"{field_name} of domain {names[i]!r} is {vector[i]}: expected 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The answer for one target, in the order of the candidates."""

    domains: Sequence[str]
    weight_D: Vector
    cap_D: Vector
    estimate_D: Vector
    tokens_D: NDArray[np.int64]
    decision_D: Sequence[Decision]
    reason_D: Sequence[str]

    def frame(self, target: str) -> pl.DataFrame:
        """Rows of the table `pretraining_mixture`; an estimate that is NaN becomes null."""
        return pl.DataFrame(
            {
                "target": [target] * len(self.domains),
                "domain": list(self.domains),
                "weight": self.weight_D,
                "cap": self.cap_D,
                "estimate": self.estimate_D,
                "tokens": self.tokens_D,
                "decision": list(self.decision_D),
                "reason": list(self.reason_D),
            },
            schema_overrides={"target": pl.String, "domain": pl.String, "decision": pl.String, "reason": pl.String},
        ).with_columns(pl.col("estimate").fill_nan(None))


def mix(
    candidates: Candidates, *, budget: int, verdict: Verdict | None = None, objective: Objective | None = None
) -> Mixture:
    """The mixture of one target under its caps.

    Args:
        candidates: domains with estimates, caps, shares of the pool, and the reasons why some may not be used.
        budget: tokens of the training run.
        verdict: of the gate; None where the study switches the gate off. On `abstain` every domain that may be used
            keeps its share of the pool, within caps and bounds, whether it has an estimate or not.
        objective: what counts as best; by default the linear projection.

    Returns:
        Weights that sum to 1 within 1e-12 and never pass a cap, tokens that sum to the budget, a decision and a
        sentence for each domain.

    Raises:
        InputError: nothing can be used, or what can be used is less than the budget.
    """
    objective = objective or Objective()
    falls_back = verdict == "abstain"
    field = contest(candidates, objective, budget=budget, needs_estimate=not falls_back)
    weight_D = field.spread(field.pool_share_C if falls_back else field.chosen_C)
    kept_D = field.spread(np.zeros_like(field.pool_C) if falls_back else field.kept_C)
    decisions = decide(weight_D, kept_D, candidates.cap_D, field.open_D, falls_back=falls_back)
    reasons = mixture_reasons(
        decisions=decisions,
        weight_D=weight_D,
        cap_D=candidates.cap_D,
        pool_D=field.spread(field.pool_C / field.pool_C.sum()),
        score_D=field.spread(field.score_C, elsewhere=np.nan),
        kept_D=kept_D,
        barred=[field.barred.get(name, "") for name in candidates.domains],
        weak=verdict == "weak",
        objective=objective,
        previous_D=candidates.previous_D if objective.stays_near else None,
        name=candidates.estimate_name,
    )
    return mixture_of(candidates, weight_D, budget=budget, decisions=decisions, reasons=reasons)


def mixture_of(
    candidates: Candidates, weight_D: Vector, *, budget: int, decisions: Sequence[Decision], reasons: Sequence[str]
) -> Mixture:
    """Weights, decisions and reasons put together with what the candidates already say."""
    return Mixture(
        domains=candidates.domains,
        weight_D=weight_D,
        cap_D=candidates.cap_D,
        estimate_D=candidates.estimate_D,
        tokens_D=integer_tokens(weight_D, budget),
        decision_D=decisions,
        reason_D=reasons,
    )


@dataclass(frozen=True, kw_only=True)
class Contest:
    """The C of D domains that compete under an objective, as vectors, and why the others do not."""

    open_D: NDArray[np.bool_]
    barred: Mapping[str, str]
    score_C: Vector
    pool_C: Vector
    cap_C: Vector
    member_GC: NDArray[np.bool_]
    objective: Objective
    stderr_C: Vector
    previous_C: Vector | None

    @cached_property
    def pool_share_C(self) -> Vector:
        """The mixture under caps and bounds nearest to the pool."""
        return pool_within_limits(self.pool_C, self.cap_C, self.member_GC, self.objective.bounds)

    @property
    def kept_C(self) -> Vector:
        """The safety margin: what stays on the pool."""
        margin = self.objective.safety_margin
        return margin * self.pool_share_C if margin else np.zeros_like(self.pool_C)

    def best(self, score_C: Vector) -> Vector:
        """The best weights for some scores, whatever the mixture was before."""
        return best_weights(score_C, self.pool_C, self.kept_C, self.cap_C, self.member_GC, self.objective)

    @property
    def chosen_C(self) -> Vector:
        """The best weights, near the previous mixture where the objective asks for it and there is one."""
        return self.bounded.weight_D if self.bounded is not None else self.best(self.score_C)

    @cached_property
    def bounded(self) -> Bounded | None:
        """`chosen_C` with its prices, where it is a linear program; None where a projection finds it."""
        if self.halves is not None:
            cost_C = switching_cost(self.objective.hysteresis, self.stderr_C)
            return best_near(self.score_C, cost_C, self.halves, self.objective, self.member_GC)
        if self.objective.bounds and self.objective.projection == "linear":
            bounds = self.objective.bounds
            return best_within_bounds(self.score_C, self.kept_C, self.cap_C, bounds, self.member_GC)
        return None

    @property
    def halves(self) -> Halves | None:
        """What each domain held and could gain; None where no previous mixture counts."""
        if self.previous_C is None or not self.objective.stays_near:
            return None
        return Halves.of(self.previous_C, self.kept_C, self.cap_C)

    def spread(self, values_C: Vector, *, elsewhere: float = 0.0) -> Vector:
        """The same values over all D domains."""
        values_D = np.full(self.open_D.size, elsewhere)
        values_D[self.open_D] = values_C
        return values_D


def contest(candidates: Candidates, objective: Objective, *, budget: int, needs_estimate: bool = True) -> Contest:
    """Who competes under an objective.

    Raises:
        InputError: a lower-confidence objective has no standard errors, a bound names no group, or the domains that
            compete hold less than the budget.
    """
    score_D = scores(candidates, objective)
    barred = _barred(candidates, score_D if needs_estimate else np.zeros_like(score_D))
    open_D = np.array([name not in barred for name in candidates.domains], dtype=bool)
    pool_C, cap_C = candidates.pool_D[open_D], candidates.cap_D[open_D]
    previous_D = candidates.previous_D
    _require_enough(cap_C, n_barred=len(barred), budget=budget)
    member_GC = members(objective.bounds, candidates.labels, open_D.size)[:, open_D]
    return Contest(
        open_D=open_D,
        barred=barred,
        score_C=score_D[open_D],
        pool_C=pool_C,
        cap_C=cap_C,
        member_GC=member_GC,
        objective=objective,
        stderr_C=standard_errors(candidates, objective)[open_D],
        previous_C=None if previous_D is None else previous_D[open_D],
    )


def _barred(candidates: Candidates, score_D: Vector) -> dict[str, str]:
    """Why each domain that cannot compete cannot, by name; policy comes before missing evidence."""
    barred = dict(candidates.excluded)
    for i in np.flatnonzero((candidates.cap_D == 0) | (candidates.pool_D == 0)).tolist():
        barred.setdefault(candidates.domains[i], "the pool holds no text of it")
    for i in np.flatnonzero(~np.isfinite(score_D)).tolist():
        barred.setdefault(candidates.domains[i], "no estimate could be made for it")
    return barred


def scores(candidates: Candidates, objective: Objective) -> Vector:
    """Scores of all domains under the objective; NaN where the estimate or a needed standard error is missing."""
    return objective.score(candidates.estimate_D, standard_errors(candidates, objective))


def standard_errors(candidates: Candidates, objective: Objective) -> Vector:
    """Standard errors of all domains; zeros where the objective does not count them."""
    counted = [name for name in ("lower_confidence", "hysteresis") if getattr(objective, name)]
    if not counted:
        return np.zeros(len(candidates.domains))
    if candidates.stderr_D is None or np.isnan(candidates.stderr_D).all():
        raise InputError(f"objective.{counted[0]} is above 0, but no standard errors are given: expected stderr_D")
    return candidates.stderr_D


def _require_enough(cap_C: Vector, *, n_barred: int, budget: int) -> None:
    """Refuse candidates whose caps cannot fill the mixture, and say what would fit."""
    total = math.fsum(cap_C)
    if total >= 1 - SUM_TOLERANCE:
        return
    held = f"{cap_C.size} usable domains ({n_barred} are excluded) fill {total * budget:,.0f} tokens under their caps"
    remedy = f"lower the budget to at most {math.floor(total * budget):,}"
    if total > 0:
        factor = math.ceil(100 / total) / 100
        remedy += f", raise max_epochs to at least {factor:g} times what it is, or exclude fewer domains"
    raise InputError(f"{held}, but the budget is {budget:,} tokens: {remedy}")


def decide(
    weight_D: Vector, kept_D: Vector, cap_D: Vector, open_D: NDArray[np.bool_], *, falls_back: bool
) -> list[Decision]:
    """The decision for every domain."""
    if falls_back:
        return ["fallback" if is_open else "excluded" for is_open in open_D]
    chosen_D = weight_D > kept_D * (2 - FULL)
    full_D = chosen_D & (weight_D >= FULL * cap_D)
    code_D = np.where(~open_D, 0, np.where(full_D, 1, np.where(chosen_D, 2, 3)))
    names: tuple[Decision, ...] = ("excluded", "selected", "partial", "not selected")
    return [names[code] for code in code_D]
