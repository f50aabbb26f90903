"""Quadratic and relative-entropy projections under bounds on groups, against a general solver."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ppl_assets.errors import InputError
from ppl_assets.mixture import Candidates, GroupBound, Objective, mix
from ppl_assets_tests.mixture.test_group_bounds import bounded_problems, candidates, share

TEMPERATURE = 0.3


def loss(weights, held: Candidates, projection: str) -> float:
    """What is minimised, from its definition."""
    if projection == "l2":
        return ((weights - held.estimate_D) ** 2).sum() / 2
    pool = held.pool_D / held.pool_D.sum()
    return TEMPERATURE * (weights * np.log(weights / pool)).sum() - weights @ held.estimate_D


def solved_by_slsqp(held: Candidates, bounds, projection: str) -> np.ndarray:
    """The same problem put to scipy's general solver."""
    limits = [{"type": "eq", "fun": lambda w: w.sum() - 1}]
    for bound in bounds:
        member = np.array(held.labels[bound.attribute]) == bound.label
        limits.append({"type": "ineq", "fun": lambda w, m=member, b=bound: w[m].sum() - b.floor})
        limits.append({"type": "ineq", "fun": lambda w, m=member, b=bound: b.ceiling - w[m].sum()})
    found = minimize(
        loss,
        held.pool_D / held.pool_D.sum(),
        args=(held, projection),
        bounds=[(1e-9, cap) for cap in held.cap_D],
        constraints=limits,
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return found.x


@pytest.mark.parametrize("projection", ["l2", "kl"])
def test_the_weights_are_those_of_a_general_solver(projection):
    rng = np.random.default_rng(0)
    close = 0
    for _ in range(30):
        n = int(rng.integers(4, 10))
        caps = rng.uniform(0.2, 1.0, n)
        held = candidates(
            rng.normal(size=n) / 2, caps, ["de", *rng.choice(["de", "en"], n - 1)], ["web", *["book", "web"] * 5][:n]
        )
        pool = caps / caps.sum()
        german = float(pool[np.array(held.labels["language"]) == "de"].sum())
        web = float(pool[np.array(held.labels["kind"]) == "web"].sum())
        bounds = (
            GroupBound(attribute="language", label="de", floor=0.9 * german, ceiling=min(1.05 * german, 1.0)),
            GroupBound(attribute="kind", label="web", floor=0.98 * web),
        )
        rival = solved_by_slsqp(held, bounds, projection)
        objective = Objective(projection=projection, temperature=TEMPERATURE, bounds=bounds)
        weights = mix(held, budget=1000, objective=objective).weight_D
        for bound in bounds:
            german_or_web = np.array(held.labels[bound.attribute]) == bound.label
            assert bound.floor - 1e-9 <= weights[german_or_web].sum() <= bound.ceiling + 1e-9
        # a feasible point cannot be better than the best one; SLSQP meets its bounds to rounding error
        assert loss(weights, held, projection) <= loss(rival, held, projection) + 1e-9
        close += bool(np.abs(weights - rival).max() < 2e-6)  # SLSQP stops near the root of its ftol
    assert close >= 25  # elsewhere it stopped before the best point


def test_multipliers_that_move_while_no_weight_does_are_followed_to_the_best_mixture():
    """From round 2 to 6, less of the floor's multiplier and more of the ceiling's change no weight. Against the
    conditions of optimality, by hand."""
    estimate = np.array([-0.128, -0.227, 0.47, 0.475, 0.489, 0.125, -0.053, -0.294, 0.281])
    held = Candidates(
        domains=[f"d{i}" for i in range(9)],
        estimate_D=estimate,
        cap_D=np.where(np.arange(9) % 4 == 0, 0.09, 1.0),
        pool_D=np.ones(9),
        labels={"language": list("ddeeeffff"), "kind": list("wbwwbbwbw")},
    )
    bounds = (
        GroupBound(attribute="language", label="f", floor=0.55),
        GroupBound(attribute="kind", label="w", ceiling=0.4),
    )
    weights = mix(held, budget=1000, objective=Objective(projection="l2", bounds=bounds)).weight_D
    slope = estimate - weights
    # b: d1 is outside f, d5 and d7 inside it; w: d2 and d3 outside, d8 inside. The floor adds as much in both kinds.
    floor = slope[1] - slope[5]
    assert floor > 0.05
    assert weights[5:].sum() == pytest.approx(0.55, abs=1e-9)
    np.testing.assert_allclose([slope[1] - slope[7], slope[2] - slope[8], slope[3] - slope[8]], floor, atol=1e-8)


@settings(max_examples=30)
@given(bounded_problems(), st.sampled_from(["l2", "kl"]), st.sampled_from([0.0, 0.25]))
def test_weights_respect_bounds_caps_and_sum(problem, projection, margin):
    held, bounds = problem
    objective = Objective(projection=projection, bounds=bounds, safety_margin=margin)
    mixture = mix(held, budget=1000, objective=objective)
    assert abs(math.fsum(mixture.weight_D) - 1) <= 1e-12
    assert (mixture.weight_D <= held.cap_D).all()
    for bound in bounds:
        assert bound.floor - 1e-9 <= share(mixture, held, bound.attribute, bound.label) <= bound.ceiling + 1e-9


@pytest.mark.parametrize("projection", ["l2", "kl"])
def test_bounds_that_do_not_bind_change_nothing(projection):
    held = candidates([0.5, 0.3, 0.1], [0.9, 0.6, 0.5], ["en", "de", "de"])
    loose = (GroupBound(attribute="language", label="de", floor=0.01, ceiling=0.99),)
    free = mix(held, budget=100, objective=Objective(projection=projection)).weight_D
    bound = mix(held, budget=100, objective=Objective(projection=projection, bounds=loose)).weight_D
    np.testing.assert_allclose(bound, free, rtol=0, atol=1e-12)


def test_a_fallback_keeps_to_bounds_and_says_so():
    held = candidates([0.5, 0.3, 0.1], [1.0, 0.5, 0.5], ["en", "de", "de"])  # the pool is 50 : 25 : 25
    objective = Objective(bounds=(GroupBound(attribute="language", label="en", ceiling=0.4),))
    mixture = mix(held, budget=100, verdict="abstain", objective=objective)
    np.testing.assert_allclose(mixture.weight_D, [0.4, 0.3, 0.3], atol=1e-9)
    assert mixture.decision_D == ["fallback"] * 3
    assert "as near to its share of the pool (50 %) as caps and bounds allow" in mixture.reason_D[0]


def test_a_safety_margin_gives_way_to_a_ceiling_that_the_pool_breaks():
    held = candidates([0.5, 0.3, 0.1], [1.0, 0.5, 0.5], ["en", "de", "de"])
    bound = GroupBound(attribute="language", label="en", ceiling=0.1)
    for projection in ("linear", "l2", "kl"):
        objective = Objective(projection=projection, bounds=(bound,), safety_margin=0.8)
        mixture = mix(held, budget=100, objective=objective)
        assert mixture.weight_D[0] <= 0.1 + 1e-9
        assert (mixture.weight_D[1:] >= 0.8 * 0.45 - 1e-9).all()  # the nearest to the pool is 10 : 45 : 45


def test_a_ceiling_of_zero_leaves_nothing():
    held = candidates([0.5, 0.3, 0.1], [1.0, 0.5, 0.5], ["en", "de", "de"])
    bound = GroupBound(attribute="language", label="en", ceiling=0.0)
    for projection in ("l2", "kl"):
        mixture = mix(held, budget=100, objective=Objective(projection=projection, bounds=(bound,)))
        assert mixture.weight_D[0] <= 1e-10


@pytest.mark.parametrize("projection", ["l2", "kl"])
def test_bounds_that_cannot_hold_name_the_least_change(projection):
    held = candidates([0.5, 0.4, 0.1], [0.9, 0.6, 0.1], ["en", "en", "de"])
    bounds = (GroupBound(attribute="language", label="de", floor=0.3),)
    with pytest.raises(InputError, match=re.escape("the floor of language 'de' lowered from 0.3 to 0.1")):
        mix(held, budget=100, objective=Objective(projection=projection, bounds=bounds))
