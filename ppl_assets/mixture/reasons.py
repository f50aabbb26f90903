"""One sentence per domain that says why it got the share it got, for the table, the report and the certificate.

Quantities: shares of the mixture in per cent, scores in the unit of the estimates. Axis letter: D domains.
It repeats numbers that were decided elsewhere and decides nothing.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ppl_assets.mixture.objective import Objective
from ppl_assets.mixture.projection import Vector

Decision = Literal["selected", "partial", "not selected", "excluded", "fallback"]


def mixture_reasons(
    *,
    decisions: Sequence[Decision],
    weight_D: Vector,
    cap_D: Vector,
    pool_D: Vector,
    score_D: Vector,
    kept_D: Vector,
    barred: Sequence[str],
    weak: bool,
    objective: Objective,
    previous_D: Vector | None = None,
    name: str = "estimate",
) -> list[str]:
    """A sentence for each of D domains.

    Args:
        decisions: what was decided.
        weight_D, cap_D: shares of the mixture.
        pool_D: share of the pool among the domains that compete.
        score_D: scores that competed; NaN where a domain did not compete.
        kept_D: part of the weight that is safety margin.
        barred: why a domain could not compete; empty where it could.
        weak: whether the gate called the evidence weak.
        objective: what counted as best.
        previous_D: weights of the mixture to stay near, where there was one.
        name: what the estimate is called.
    """
    place_D = _places(score_D)
    competed = int(np.isfinite(score_D).sum())
    name = f"lower bound of the {name}" if objective.lower_confidence else name
    reasons = []
    for i, decision in enumerate(decisions):
        if decision == "excluded":
            reasons.append(f"Excluded: {barred[i]}.")
        elif decision == "fallback":
            reasons.append(f"The evidence carries no choice for this target, so {_kept(weight_D[i], pool_D[i])}.")
        else:
            ranked = f"Place {place_D[i]} of {competed} by {name} ({score_D[i]:.4g})"
            if previous_D is None:
                got = _outcome(decision, weight_D[i], cap_D[i], pool_D[i], objective)
            else:
                got = _outcome_near(decision, weight_D[i], cap_D[i], previous_D[i], objective)
            margin = f", of which {percent(kept_D[i])} is safety margin" if kept_D[i] > 0 else ""
            caution = "; the evidence for this target is weak" if weak else ""
            reasons.append(f"{ranked}: {got}{margin}{caution}.")
    return reasons


def percent(share: float) -> str:
    """A share in per cent with three significant digits, never with an exponent."""
    if 0 < share < 1e-5:
        return "below 0.001 %"
    return f"{100 * share:.3g} %" if share < 1 else f"{100 * share:,.0f} %"


def _kept(weight: float, pool: float) -> str:
    """What a domain gets where nothing is chosen."""
    if abs(weight - pool) <= 1e-9:
        return f"it keeps its share of the pool ({percent(pool)})"
    return f"it gets {percent(weight)}, as near to its share of the pool ({percent(pool)}) as caps and bounds allow"


def _outcome(decision: Decision, weight: float, cap: float, pool: float, objective: Objective) -> str:
    """What a domain that competed got, as the second half of a sentence."""
    if decision == "selected":
        return f"fills its cap ({percent(cap)} of the mixture)"
    if decision == "not selected":
        kept = f", it gets {percent(weight)}" if weight > 0 else ""
        others = "domains ahead of it or that a bound on a group favours" if objective.bounds else "domains ahead of it"
        return f"{others} fill the mixture{kept}"
    if objective.projection != "linear":
        return f"gets {percent(weight)} of the mixture, against {percent(pool)} of the pool (cap {percent(cap)})"
    if objective.bounds:
        return (
            f"gets {percent(weight)} of the mixture, which is what caps and bounds on groups left (cap {percent(cap)})"
        )
    return f"at the boundary, gets {percent(weight)} of the mixture, which is what was left (cap {percent(cap)})"


def _outcome_near(decision: Decision, weight: float, cap: float, previous: float, objective: Objective) -> str:
    """The same where a previous mixture counts."""
    if decision == "selected":
        return f"fills its cap ({percent(cap)} of the mixture)"
    limits = [f"a domain must beat another by {objective.hysteresis:g} standard errors"] if objective.hysteresis else []
    limits += [f"at most {percent(objective.churn)} changes at once"] if objective.churn < 1 else []
    before = "nothing" if previous == 0 else percent(previous)
    got = "nothing" if weight == 0 else f"{percent(weight)} of the mixture"
    return f"gets {got} (cap {percent(cap)}), before it got {before}; {' and '.join(limits)}"


def _places(score_D: Vector) -> list[int]:
    """Place by decreasing score, equal scores sharing the best place; 0 where there is no score."""
    from scipy.stats import rankdata

    known = np.isfinite(score_D)
    place_D = np.zeros(score_D.size, dtype=int)
    place_D[known] = rankdata(-score_D[known], method="min")
    return place_D.tolist()
