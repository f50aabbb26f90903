"""The Pareto front: mixtures of which none is worse than another in every target.

Quantities: gains as `several_targets` defines them. Axis letters: T targets, K compromises.
A linear projection is scanned by weighted worst cases, which reach every point of the front; weighted means would reach
its corners alone, which for two targets that want different domains are nearly the targets' own mixtures. The other
projections are strictly concave, where weighted means reach every point.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ppl_assets.mixture.decision import Candidates, Mixture, Verdict, mix
from ppl_assets.mixture.objective import Objective
from ppl_assets.mixture.projection import Vector
from ppl_assets.mixture.several_targets import NO_GAIN, Yardstick, mean_candidates
from ppl_assets.mixture.worst_case import mix_worst_case


@dataclass(frozen=True, slots=True, kw_only=True)
class Compromise:
    """One point of the Pareto front."""

    preference: Mapping[str, float]
    """Weight of each target, summing to 1: by it `mix_worst_case` (linear) or `mix` of the mean gives the mixture."""

    gain: Mapping[str, float]
    """Gain of each target, 1 being what its own mixture reaches."""

    mixture: Mixture


def pareto_front(
    by_target: Mapping[str, Candidates],
    *,
    budget: int,
    verdict: Verdict | None = None,
    objective: Objective | None = None,
    steps: int = 20,
) -> list[Compromise]:
    """Mixtures of which none is worse than another in every target, over a grid of preferences.

    Args:
        by_target: candidates of each target: the same domains, caps and pool.
        budget: tokens of the training run.
        verdict: of the gate on the targets together, as `mix` takes it.
        objective: what counts as best for one preference; the front is free of any previous mixture.
        steps: preferences are multiples of 1 / steps.

    Returns:
        Compromises in the order of preference for the first target; of equal gains only the first is kept. None where
        no target can gain.
    """
    objective = replace(objective or Objective(), churn=1.0, hysteresis=0.0)
    yardstick = Yardstick.of(by_target, budget=budget, objective=objective)
    found: list[Compromise] = []
    for share_T in _grid(len(by_target), steps):
        if not (share_T[yardstick.reach_T > NO_GAIN] > 0).any():
            continue
        preference = dict(zip(by_target, share_T.tolist(), strict=True))
        if objective.projection == "linear":
            mixture = mix_worst_case(
                by_target, budget=budget, preference=preference, verdict=verdict, objective=objective
            )
        else:
            # targets count by their gain, so that one with larger estimates does not decide alone
            preference = _by_reach(share_T, yardstick)
            mixture = mix(mean_candidates(by_target, preference), budget=budget, verdict=verdict, objective=objective)
        found.append(Compromise(preference=preference, gain=yardstick.gains(mixture), mixture=mixture))
    return _undominated(found)


def _by_reach(share_T: Vector, yardstick: Yardstick) -> dict[str, float]:
    """Weights of estimates that weigh gains by `share_T`."""
    weight_T = np.divide(share_T, yardstick.reach_T, out=np.zeros_like(share_T), where=yardstick.reach_T > NO_GAIN)
    return dict(zip(yardstick.targets, (weight_T / weight_T.sum()).tolist(), strict=True))


def steps_for(n_targets: int, points: int) -> int:
    """The finest grid of preferences, as `pareto_front` takes it, that has at most so many; at least the corners."""
    steps = 1
    while n_targets > 1 and math.comb(steps + n_targets, n_targets - 1) <= points:
        steps += 1
    return steps


def _grid(n_targets: int, steps: int) -> list[Vector]:
    """All preferences that are multiples of 1 / steps and sum to 1, the first target's weight falling."""
    # bars and stars: positions of n_targets - 1 bars among steps + n_targets - 1 places
    places = range(steps + n_targets - 1)
    shares = []
    for bars in itertools.combinations(places, n_targets - 1):
        edges = np.array([-1, *bars, steps + n_targets - 1])
        shares.append((np.diff(edges) - 1) / steps)
    return shares[::-1]


def _undominated(found: list[Compromise]) -> list[Compromise]:
    """Those than which no other is at least as good in every target and better in one; the first of equals."""
    gain_KT = np.nan_to_num(np.array([list(one.gain.values()) for one in found]))
    front: list[Compromise] = []
    for k, one in enumerate(found):
        better = ((gain_KT >= gain_KT[k] - NO_GAIN).all(axis=1)) & ((gain_KT > gain_KT[k] + NO_GAIN).any(axis=1))
        repeated = any(np.allclose(gain_KT[k], gain_KT[i], rtol=0, atol=NO_GAIN) for i in range(k))
        if not better.any() and not repeated:
            front.append(one)
    return front
