"""One mixture for several targets: mean, best worst case, Pareto front."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from ppl_assets.errors import InputError
from ppl_assets.mixture import (
    Candidates,
    GroupBound,
    Objective,
    gains,
    linear,
    mean_candidates,
    mix,
    mix_worst_case,
    pareto_front,
    worst_case_prices,
)
from ppl_assets.mixture.pareto import steps_for

# the first domain serves only the first target, the second only the second, the third is good for both
ESTIMATES = {"german": np.array([0.9, 0.1, 0.6, 0.0]), "french": np.array([0.1, 0.9, 0.6, 0.0])}


def by_target(estimates=None, caps=(0.5, 0.5, 0.4, 2.0), **more):
    """Candidates a, b, c, ... per target, whose pool is proportional to their caps."""
    names = list("abcdefgh"[: len(caps)])
    estimates = ESTIMATES if estimates is None else estimates
    return {
        target: Candidates(domains=names, estimate_D=values, cap_D=caps, pool_D=caps, **more)
        for target, values in estimates.items()
    }


@st.composite
def target_sets(draw):
    n, n_targets = draw(st.integers(2, 6)), draw(st.integers(1, 3))
    caps = np.array(draw(st.lists(st.integers(1, 50), min_size=n, max_size=n)), dtype=float)
    caps *= draw(st.sampled_from([1.5, 4.0])) / caps.sum()
    values = st.lists(st.integers(-4, 4).map(lambda i: i / 4), min_size=n, max_size=n)
    targets = {f"t{k}": np.array(draw(values)) for k in range(n_targets)}
    return by_target(targets, tuple(caps))


def test_the_mean_mixture_is_the_projection_of_the_mean_estimate():
    targets = by_target()
    mixture = mix(mean_candidates(targets), budget=100)
    expected = linear((ESTIMATES["german"] + ESTIMATES["french"]) / 2, targets["german"].cap_D)
    np.testing.assert_allclose(mixture.weight_D, expected, atol=1e-15)


def test_a_preference_weighs_the_targets():
    held = mean_candidates(by_target(stderr_D=np.full(4, 0.1)), {"german": 3, "french": 1})
    np.testing.assert_allclose(held.estimate_D, [0.7, 0.3, 0.6, 0.0], atol=1e-15)
    np.testing.assert_allclose(held.stderr_D, 0.1, atol=1e-15)


def test_the_worst_case_mixture_treats_symmetric_targets_alike():
    targets = by_target()
    mixture = mix_worst_case(targets, budget=100)
    np.testing.assert_allclose(mixture.weight_D, [0.3, 0.3, 0.4, 0.0], atol=1e-9)
    gain = gains(targets, mixture, budget=100)
    assert gain["german"] == pytest.approx(gain["french"], abs=1e-9)
    assert "Estimates german 0.9, french 0.1: gets 30 % of the mixture (cap 50 %)" in mixture.reason_D[0]


def test_the_worst_case_mixture_respects_bounds_and_margin():
    targets = by_target(labels={"kind": ["web", "web", "web", "book"]})
    objective = Objective(safety_margin=0.1, bounds=(GroupBound(attribute="kind", label="book", floor=0.5),))
    mixture = mix_worst_case(targets, budget=100, objective=objective)
    assert mixture.weight_D[3] >= 0.5 - 1e-12
    assert (mixture.weight_D >= 0.1 * np.array([0.5, 0.5, 0.4, 2.0]) / 3.4 - 1e-12).all()


@given(target_sets(), st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_no_other_mixture_has_a_better_worst_case(targets, raw):
    own = {t: gains(targets, mix(one, budget=100), budget=100) for t, one in targets.items()}
    helped = [t for t in targets if math.isfinite(own[t][t])]
    if not helped:
        with pytest.raises(InputError, match="no mixture helps any of the targets"):
            mix_worst_case(targets, budget=100)
        return
    mixture = mix_worst_case(targets, budget=100)
    assert abs(math.fsum(mixture.weight_D) - 1) <= 1e-12
    assert (mixture.weight_D <= next(iter(targets.values())).cap_D).all()
    smallest = min(gains(targets, mixture, budget=100)[t] for t in helped)
    first = next(iter(targets.values()))
    rivals = [mix(mean_candidates(targets), budget=100), *(mix(one, budget=100) for one in targets.values())]
    # a random direction's projection is another mixture under the same caps
    direction = Candidates(
        domains=first.domains, estimate_D=raw[: len(first.domains)], cap_D=first.cap_D, pool_D=first.pool_D
    )
    rivals.append(mix(direction, budget=100))
    for rival in rivals:
        rival_gain = gains(targets, rival, budget=100)
        assert min(rival_gain[t] for t in helped) <= smallest + 1e-6  # HiGHS tolerance over gains of at least 0.01


def test_a_target_on_its_own_gains_everything():
    targets = by_target()
    assert gains(targets, mix(targets["german"], budget=100), budget=100)["german"] == pytest.approx(1, abs=1e-12)


def test_the_pool_gains_nothing():
    targets = by_target()
    pool = mix(targets["german"], budget=100, verdict="abstain")
    assert gains(targets, pool, budget=100) == pytest.approx({"german": 0, "french": 0}, abs=1e-12)


def test_the_front_runs_from_one_target_to_the_other_without_dominated_points():
    front = pareto_front(by_target(), budget=100, steps=10)
    german = [one.gain["german"] for one in front]
    french = [one.gain["french"] for one in front]
    assert german[0] == pytest.approx(1, abs=1e-12)
    assert french[-1] == pytest.approx(1, abs=1e-12)
    assert german == sorted(german, reverse=True)
    assert french == sorted(french)
    assert len(front) >= 3


def test_the_front_of_targets_that_want_different_domains_has_points_between_them():
    # weighted means know two answers here: all for one target, or all for the other
    apart = {"german": np.array([0.9, 0.1, 0.0]), "french": np.array([0.1, 0.9, 0.0])}
    front = pareto_front(by_target(apart, caps=(2.0, 2.0, 2.0)), budget=100, steps=4)
    shortfalls = [(1 - point.gain["german"], 1 - point.gain["french"]) for point in front]
    assert len(front) == 5
    for point, (german, french) in zip(front, shortfalls, strict=True):
        np.testing.assert_allclose(point.preference["german"] * german, point.preference["french"] * french, atol=1e-9)


@settings(max_examples=30)
@given(target_sets())
def test_the_front_is_optimal_for_each_preference_against_highs(targets):
    """No mixture under the caps has a smaller largest weighted shortfall."""
    first = next(iter(targets.values()))
    base = {t: one.estimate_D @ (first.pool_D / first.pool_D.sum()) for t, one in targets.items()}
    reach = {t: one.estimate_D @ mix(one, budget=100).weight_D - base[t] for t, one in targets.items()}
    for point in pareto_front(targets, budget=100, steps=3):
        counted = [t for t in targets if reach[t] > 1e-9 and point.preference[t] > 0]
        # minimise s over (w, s) with p (1 - gain) <= s
        rows = [np.append(-point.preference[t] * targets[t].estimate_D / reach[t], -1.0) for t in counted]
        limits = [-point.preference[t] * (1 + base[t] / reach[t]) for t in counted]
        best = linprog(
            np.append(np.zeros(len(first.domains)), 1.0),
            A_ub=np.array(rows),
            b_ub=limits,
            A_eq=[np.append(np.ones(len(first.domains)), 0.0)],
            b_eq=[1.0],
            bounds=[*((0, cap) for cap in first.cap_D), (0, None)],
            method="highs-ipm",
        )
        ours = max(point.preference[t] * (1 - point.gain[t]) for t in counted)
        assert best.success
        assert ours <= best.fun + 1e-6 * max(1.0, max(1 / reach[t] for t in counted))  # HiGHS: 1e-7 per row


def test_the_prices_of_a_worst_case_are_what_relaxing_gains():
    estimates = np.array([[0.9, 0.1, 0.3, 0.0], [0.2, 0.8, 0.3, 0.0]])
    caps, floor = np.array([0.3, 0.5, 0.9, 1.0]), 0.3
    kinds = ["web", "web", "web", "book"]
    targets = {
        name: Candidates(domains=list("abcd"), estimate_D=row, cap_D=caps, pool_D=np.ones(4), labels={"kind": kinds})
        for name, row in zip(("one", "two"), estimates, strict=True)
    }
    objective = Objective(bounds=(GroupBound(attribute="kind", label="book", floor=floor),))
    mixture = mix_worst_case(targets, budget=1000, objective=objective)
    own = np.array(
        [
            row @ mix(targets[t], budget=1000, objective=objective).weight_D
            for t, row in zip(targets, estimates, strict=True)
        ]
    )
    base = estimates @ np.array([0.7 / 3] * 3 + [0.3])

    def best(cap_of_a, floor_of_books):
        """The largest smallest gain, by the yardstick as it is, from HiGHS directly."""
        slope = estimates / (own - base)[:, None]
        found = linprog(
            [0, 0, 0, 0, -1.0],
            A_ub=np.column_stack([-slope, np.ones(2)]),
            b_ub=-base / (own - base),
            A_eq=[[1, 1, 1, 1, 0]],
            b_eq=[1.0],
            bounds=[(0, cap_of_a), (0, 0.5), (0, 0.9), (floor_of_books, 1.0), (None, 1.0)],
        )
        return -found.fun

    prices = {p.rule: p for p in worst_case_prices(targets, mixture, budget=1000, objective=objective)}
    step = 1e-3  # linear programs: the difference is exact within the piece
    assert set(prices) == {"cap of a", "floor of kind 'book'"}
    assert prices["cap of a"].price == pytest.approx((best(0.3 + step, floor) - best(0.3, floor)) / step, rel=1e-5)
    slope = (best(0.3, floor - step) - best(0.3, floor)) / step
    assert prices["floor of kind 'book'"].price == pytest.approx(slope, rel=1e-5)
    assert prices["cap of a"].sentence.endswith("to the gain of the target served worst.")


@pytest.mark.parametrize(("n_targets", "points", "steps"), [(1, 20, 1), (2, 20, 19), (3, 20, 4), (9, 20, 1)])
def test_the_grid_of_preferences_has_no_more_points_than_asked_for_but_all_corners(n_targets, points, steps):
    assert steps_for(n_targets, points) == steps
    assert math.comb(steps + n_targets - 1, n_targets - 1) <= max(points, n_targets)


@settings(max_examples=30)
@given(target_sets())
def test_no_point_of_the_front_is_worse_in_everything(targets):
    front = pareto_front(targets, budget=100, steps=4)
    table = np.nan_to_num([list(one.gain.values()) for one in front])
    for k, row in enumerate(table):
        assert sum(one == 1 for one in (table == row).all(axis=1)) == 1
        rivals = np.delete(table, k, axis=0)
        assert not ((rivals >= row).all(axis=1) & (rivals > row + 1e-6).any(axis=1)).any()
    for one in front:
        assert sum(one.preference.values()) == pytest.approx(1)


def test_targets_over_different_domains_are_refused():
    targets = by_target()
    other = Candidates(domains=list("dcba"), estimate_D=np.zeros(4), cap_D=np.ones(4), pool_D=np.ones(4))
    with pytest.raises(InputError, match="targets 'german' and 'other' have different domains"):
        mean_candidates(targets | {"other": other})


@pytest.mark.parametrize(
    ("preference", "sentence"),
    [
        ({"germn": 1}, "'germn', which is no target (did you mean 'german'?)"),
        ({"german": -1}, "the preference for target 'german' is -1"),
        ({"german": 0}, "are all 0"),
    ],
)
def test_preferences_that_make_no_sense_are_refused(preference, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        mean_candidates(by_target(), preference)
