"""All mixtures that a study asks for: one for each target, and those that serve several targets at once.

A target for which the gate abstains has no say in a combined mixture: nothing is known about what would serve it. Where
it abstains for all of them, the combined mixture is the pool too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from ppl_assets.errors import InputError
from ppl_assets.mixture.decision import Candidates, Mixture, Verdict, mix
from ppl_assets.mixture.objective import Objective
from ppl_assets.mixture.pareto import pareto_front, steps_for
from ppl_assets.mixture.projection import Vector
from ppl_assets.mixture.several_targets import mean_candidates, target_shares
from ppl_assets.mixture.shadow_price import ShadowPrice, shadow_prices, worst_case_prices
from ppl_assets.mixture.worst_case import mix_worst_case

Kind = Literal["target", "mean", "max_min", "pareto"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One mixture of a study."""

    name: str
    """The target's, or `mean`, `max_min`, `pareto-1`, ..."""

    kind: Kind
    mixture: Mixture
    target_weight: Mapping[str, float]
    """How much each target counted; one that is not named counted nothing."""

    prices: Sequence[ShadowPrice] = ()
    """What binds it; not computed for the points of a front."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a study asks for."""

    by_target: Mapping[str, Candidates]
    """Candidates of each target: the same domains, caps and pool."""

    verdicts: Mapping[str, Verdict | None]
    """Of the gate on each target; None where the study switches it off."""

    budget: int
    objective: Objective
    combine: Sequence[Literal["mean", "max_min", "pareto"]] = ()
    target_weights: Mapping[str, float] | None = None
    """Weight of each target in `mean` and `max_min`; equal where not given."""

    front_points: int = 20
    """Preferences that `pareto` tries."""

    previous: Mapping[str, Vector]
    """Weights of the mixture to stay near, by name of the mixture; a mixture without one is free."""

    def heard(self, weights: Mapping[str, float] | None = None) -> dict[str, Candidates]:
        """Targets with a say: the gate does not abstain, and their weight is above 0."""
        return {
            target: one
            for target, one in self.by_target.items()
            if self.verdicts[target] != "abstain" and (not weights or weights.get(target, 0.0) > 0)
        }

    def shares(self, heard: Iterable[str]) -> dict[str, float]:
        """Weights of the targets with a say, summing to 1; none where nobody has one."""
        weights = self.target_weights
        return target_shares(heard, weights and {target: weights[target] for target in heard}) if heard else {}

    def near(self, name: str, candidates: Candidates) -> Candidates:
        """The candidates of the mixture `name`, with the mixture that it stays near."""
        return replace(candidates, previous_D=self.previous.get(name))

    def verdict_on(self, targets: Mapping[str, Candidates]) -> Verdict | None:
        """The gate's verdict on several targets together: as weak as the weakest."""
        verdicts = {self.verdicts[target] for target in targets}
        return "abstain" if not targets else "weak" if "weak" in verdicts else next(iter(verdicts))


def every_mixture(wanted: Wanted) -> list[Made]:
    """The mixtures of all targets, then those that combine them, in the order in which the study asks for them.

    Raises:
        InputError: a mixture is impossible; names the mixture and the study's section.
    """
    made: list[Made] = []
    for target in wanted.by_target:
        with _naming(target):
            made.append(_of_target(wanted, target))
    for how in wanted.combine:
        with _naming(how):
            made += {"mean": _mean, "max_min": _max_min, "pareto": _front}[how](wanted)
    return made


def _of_target(wanted: Wanted, target: str) -> Made:
    candidates, verdict = wanted.near(target, wanted.by_target[target]), wanted.verdicts[target]
    mixture = mix(candidates, budget=wanted.budget, verdict=verdict, objective=wanted.objective)
    prices = shadow_prices(candidates, mixture, budget=wanted.budget, objective=wanted.objective)
    return Made(name=target, kind="target", mixture=mixture, target_weight={target: 1.0}, prices=prices)


def _mean(wanted: Wanted) -> list[Made]:
    heard = wanted.heard(wanted.target_weights)
    share = wanted.shares(heard)
    candidates = wanted.near("mean", mean_candidates(heard or wanted.by_target, share or None))
    mixture = mix(candidates, budget=wanted.budget, verdict=wanted.verdict_on(heard), objective=wanted.objective)
    prices = shadow_prices(candidates, mixture, budget=wanted.budget, objective=wanted.objective)
    return [Made(name="mean", kind="mean", mixture=mixture, target_weight=share, prices=prices)]


def _max_min(wanted: Wanted) -> list[Made]:
    heard = wanted.heard(wanted.target_weights)
    share = wanted.shares(heard)
    near = {target: wanted.near("max_min", one) for target, one in (heard or wanted.by_target).items()}
    mixture = mix_worst_case(
        near,
        budget=wanted.budget,
        preference=share or None,
        verdict=wanted.verdict_on(heard),
        objective=wanted.objective,
    )
    prices = worst_case_prices(
        near, mixture, budget=wanted.budget, preference=share or None, objective=wanted.objective
    )
    return [Made(name="max_min", kind="max_min", mixture=mixture, target_weight=share, prices=prices)]


def _front(wanted: Wanted) -> list[Made]:
    heard = wanted.heard()
    if not heard:
        return []
    front = pareto_front(
        heard,
        budget=wanted.budget,
        verdict=wanted.verdict_on(heard),
        objective=wanted.objective,
        steps=steps_for(len(heard), wanted.front_points),
    )
    return [
        Made(name=f"pareto-{number}", kind="pareto", mixture=point.mixture, target_weight=point.preference)
        for number, point in enumerate(front, start=1)
    ]


@contextmanager
def _naming(mixture: str) -> Iterator[None]:
    """Name the mixture that an error is about, and where the study states what it is made from."""
    try:
        yield
    except InputError as error:
        raise InputError(f"study field mixture, mixture {mixture!r}: {error}") from error
