"""Floors and ceilings for groups of domains: a language, a topic, a licence, a maker.

Quantities: shares of the mixture; prices as expected estimate per unit of share. Axis letters: D domains, G bounds.
The best mixture under bounds is a linear program. Where bounds cannot hold together, a second one finds the least
change that would make them hold, and the error names it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

import numpy as np
from numpy.typing import NDArray

from ppl_assets.errors import InputError, suggestion
from ppl_assets.mixture.linear_program import Program, maximise
from ppl_assets.mixture.projection import SUM_TOLERANCE, Vector

# What a projection may miss a bound by, as a share of the mixture: one token in ten thousand million.
MISSED = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBound:
    """The domains whose `attribute` (language, topic, ...) is `label` fill from `floor` to `ceiling` of the mixture."""

    attribute: str
    label: str
    floor: float = 0.0
    ceiling: float = 1.0

    def __post_init__(self) -> None:
        """Refuse bounds that are no shares."""
        if not 0 <= self.floor <= self.ceiling <= 1:
            raise InputError(
                f"the bound on {self.name} is from {self.floor} to {self.ceiling}: expected 0 <= floor <= ceiling <= 1"
            )

    def after(self, kept: float, margin: float) -> "GroupBound":
        """The bound on the chosen part of the mixture, as a share of that part, where the group has `kept` already."""
        floor, ceiling = ((share - kept) / (1 - margin) for share in (self.floor, self.ceiling))
        return replace(self, floor=min(max(floor, 0.0), 1.0), ceiling=min(max(ceiling, 0.0), 1.0))

    @property
    def name(self) -> str:
        """The group in words."""
        return f"{self.attribute} {self.label!r}"


def members(bounds: Sequence[GroupBound], labels: Mapping[str, Sequence[str]], n_domains: int) -> NDArray[np.bool_]:
    """Which of D domains each of G bounds is about, as a G x D array.

    Raises:
        InputError: a bound names an attribute or a label that no domain has.
    """
    member_GD = np.zeros((len(bounds), n_domains), dtype=bool)
    for g, bound in enumerate(bounds):
        if bound.attribute not in labels:
            raise InputError(
                f"a bound names the attribute {bound.attribute!r}{suggestion(bound.attribute, labels)}: "
                f"expected one of {sorted(labels)}"
            )
        member_GD[g] = np.asarray(labels[bound.attribute], dtype=object) == bound.label
        if not member_GD[g].any():
            known = {label for label in labels[bound.attribute] if label is not None}
            raise InputError(f"no domain has {bound.name}{suggestion(bound.label, known)}")
    return member_GD


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """The best mixture under bounds, and what it would gain per unit by which a limit is relaxed: 0 if it is slack."""

    weight_D: Vector
    bounds: Sequence[GroupBound]
    floor_price_G: Vector
    ceiling_price_G: Vector
    excess_D: Vector
    """Of raising a domain's cap, where the domain is at it; negative where it is not."""


def best_within_bounds(
    score_D: Vector, low_D: Vector, cap_D: Vector, bounds: Sequence[GroupBound], member_GD: NDArray[np.bool_]
) -> Bounded:
    """The mixture with the largest sum of weight times score between `low_D` and `cap_D` and within all bounds.

    Raises:
        InputError: no mixture satisfies all bounds; names the least change that would let one.
    """
    rows_RD = np.vstack([np.ones_like(score_D), member_GD])
    row_low_R = np.array([1.0, *(bound.floor for bound in bounds)])
    row_high_R = np.array([1.0, *(bound.ceiling for bound in bounds)])
    program = Program(
        gain_D=score_D, low_D=low_D, high_D=cap_D, rows_RD=rows_RD, row_low_R=row_low_R, row_high_R=row_high_R
    )
    optimum = maximise(program)
    if optimum is None or _misses(program, optimum.x_D):
        raise InputError(_conflict(program, bounds))
    row_R = optimum.high_price_R - optimum.low_price_R
    return Bounded(
        weight_D=optimum.x_D,
        bounds=bounds,
        floor_price_G=optimum.low_price_R[1:],
        ceiling_price_G=optimum.high_price_R[1:],
        excess_D=score_D - row_R @ rows_RD,
    )


def _misses(program: Program, x_D: Vector) -> bool:
    """Whether HiGHS took for a mixture what is none: it lets bounds be missed by more than rounding.

    Lower bounds of domains are a safety margin, which itself misses the bounds on groups by up to `MISSED`.
    """
    share_R = program.rows_RD @ x_D
    missed_R = np.maximum(program.row_low_R - share_R, share_R - program.row_high_R)
    of_bounds = MISSED if program.low_D.any() else SUM_TOLERANCE
    return bool(missed_R[0] > SUM_TOLERANCE or missed_R[1:].max(initial=0.0) > of_bounds)


def _conflict(program: Program, bounds: Sequence[GroupBound]) -> str:
    """The smallest total change of floors and ceilings that lets a mixture exist, in words."""
    n_domains, n_bounds = len(program.gain_D), len(bounds)
    # one variable per bound for what is missing below its floor, one for what is too much above its ceiling
    slack_RS = np.vstack([np.zeros(2 * n_bounds), np.hstack([np.eye(n_bounds), -np.eye(n_bounds)])])
    relaxed = maximise(
        Program(
            gain_D=np.concatenate([np.zeros(n_domains), -np.ones(2 * n_bounds)]),
            low_D=np.concatenate([program.low_D, np.zeros(2 * n_bounds)]),
            high_D=np.concatenate([program.high_D, np.ones(2 * n_bounds)]),
            rows_RD=np.hstack([program.rows_RD, slack_RS]),
            row_low_R=program.row_low_R,
            row_high_R=program.row_high_R,
        )
    )
    assert relaxed is not None, "caps that sum to 1 admit a mixture once every bound may be missed"
    missed_2G = relaxed.x_D[n_domains:].reshape(2, n_bounds)
    changes = [
        f"the floor of {bound.name} lowered from {bound.floor:g} to {_short(bound.floor - below, ROUND_FLOOR):g}"
        for bound, below in zip(bounds, missed_2G[0], strict=True)
        if below > 0
    ] + [
        f"the ceiling of {bound.name} raised from {bound.ceiling:g} to {_short(bound.ceiling + above, ROUND_CEILING):g}"
        for bound, above in zip(bounds, missed_2G[1], strict=True)
        if above > 0
    ]
    return "no mixture satisfies all bounds on groups under the caps; the least change would be " + " and ".join(
        changes
    )


def _short(share: float, rounding: str) -> float:
    """A share of four digits, rounded to the side on which a bound is the looser; rounding errors count as none."""
    return float(Context(prec=4, rounding=rounding).create_decimal_from_float(round(share, 12)))
