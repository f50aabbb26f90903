"""Staying near the previous mixture: what may move, by how much, and that nothing moves without evidence."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ppl_assets.errors import InputError
from ppl_assets.mixture import (
    Candidates,
    GroupBound,
    Objective,
    gains,
    mean_candidates,
    mix,
    mix_worst_case,
    shadow_prices,
    worst_case_prices,
)


@st.composite
def histories(draw):
    """Candidates with standard errors and a previous mixture that fits under their caps, and a newer estimate."""
    n = draw(st.integers(2, 8))
    caps = np.array(draw(st.lists(st.integers(1, 50), min_size=n, max_size=n)), dtype=float)
    caps *= draw(st.sampled_from([1.0, 1.5, 4.0])) / caps.sum()
    grid = st.integers(-4, 4).map(lambda i: i / 4)
    before, after = (np.array(draw(st.lists(grid, min_size=n, max_size=n))) for _ in range(2))
    stderr = np.array(draw(st.lists(st.integers(0, 4).map(lambda i: i / 20), min_size=n, max_size=n)))
    return candidates(before, caps, stderr), candidates(after, caps, stderr)


def candidates(estimate, caps, stderr=None, previous=None, kinds=None) -> Candidates:
    stderr = np.zeros(len(caps)) if stderr is None else stderr
    labels = {"kind": kinds or ["a", "b"] * len(caps)}
    labels = {"kind": labels["kind"][: len(caps)]}
    return Candidates(
        domains=[f"d{i}" for i in range(len(caps))],
        estimate_D=estimate,
        cap_D=caps,
        pool_D=caps,
        stderr_D=stderr,
        labels=labels,
        previous_D=previous,
    )


def near(held: Candidates, previous) -> Candidates:
    return candidates(held.estimate_D, held.cap_D, held.stderr_D, previous, held.labels["kind"])


def weights(held: Candidates, **settings):
    return mix(held, budget=1000, objective=Objective(**settings)).weight_D


def changed(one, other) -> float:
    """Share of the mixture that is elsewhere."""
    return float(np.abs(one - other).sum() / 2)


@given(histories(), st.sampled_from([0.05, 0.3, 1.0]), st.sampled_from([0.0, 0.5, 2.0]))
def test_the_same_evidence_gives_the_same_mixture(history, churn, hysteresis):
    held, _ = history
    first = weights(held)
    again = weights(near(held, first), churn=churn, hysteresis=hysteresis)
    np.testing.assert_allclose(again, first, rtol=0, atol=1e-12)


@given(histories(), st.sampled_from([0.05, 0.3]), st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, 0.2]))
def test_no_more_than_the_churn_changes_and_limits_hold(history, churn, hysteresis, margin):
    held, newer = history
    previous = weights(held, safety_margin=margin)
    now = weights(near(newer, previous), churn=churn, hysteresis=hysteresis, safety_margin=margin)
    assert abs(math.fsum(now) - 1) <= 1e-12
    assert (now >= 0).all()
    assert (now <= newer.cap_D).all()
    assert changed(now, previous) <= churn + 1e-9


@given(histories(), st.sampled_from([0.0, 1.0, 2.0]))
def test_weight_moves_only_to_a_domain_that_beats_the_other_by_enough(history, k):
    held, newer = history
    previous = weights(held)
    now = weights(near(newer, previous), churn=0.9, hysteresis=k)
    gained, lost = np.flatnonzero(now > previous + 1e-9), np.flatnonzero(now < previous - 1e-9)
    for i, j in product(gained, lost):
        lead = newer.estimate_D[i] - newer.estimate_D[j]
        assert lead > k * (newer.stderr_D[i] + newer.stderr_D[j])


@given(histories())
def test_without_hysteresis_and_with_room_to_change_all_that_gains_moves(history):
    held, newer = history
    now = weights(near(newer, weights(held)), churn=0.999999)
    # all but a millionth may change, and estimates lie in -1 to 1; ties stay where they were
    assert now @ newer.estimate_D >= weights(newer) @ newer.estimate_D - 3e-6


def test_the_best_exchanges_come_first():
    previous = [0.4, 0.4, 0.2, 0.0, 0.0]
    held = candidates([0.5, 0.1, 0.4, 0.9, 0.8], [0.4, 0.4, 0.4, 0.1, 0.4], previous=previous)
    # of 20 % that may change, the worst domain gives all; the best takes its cap, the next the rest
    np.testing.assert_allclose(weights(held, churn=0.2), [0.4, 0.2, 0.2, 0.1, 0.1], atol=1e-9)


def test_a_newcomer_must_beat_what_it_replaces_by_standard_errors():
    held = candidates([0.50, 0.60], [1.0, 1.0], np.array([0.04, 0.05]), previous=[1.0, 0.0])
    np.testing.assert_allclose(weights(held, hysteresis=1.0), [0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(weights(held, hysteresis=1.2), [1.0, 0.0], atol=1e-12)


def test_policy_and_caps_may_force_more_than_the_churn_but_not_more_than_they_must():
    held = Candidates(
        domains=list("abc"),
        estimate_D=[0.9, 0.1, 0.5],
        cap_D=[1.0, 0.5, 0.6],
        pool_D=[1.0, 1.0, 1.0],
        excluded={"a": "policy: no longer allowed"},
        previous_D=[0.6, 0.4, 0.0],
    )
    mixture = mix(held, budget=1000, objective=Objective(churn=0.1))
    # a is out, which frees 60 %; b keeps what it had although c is better
    np.testing.assert_allclose(mixture.weight_D, [0.0, 0.4, 0.6], atol=1e-9)
    assert mixture.decision_D == ["excluded", "partial", "selected"]


def test_a_new_floor_is_met_although_the_churn_is_smaller():
    held = candidates([0.9, 0.1], [1.0, 1.0], previous=[1.0, 0.0], kinds=["a", "b"])
    floor = GroupBound(attribute="kind", label="b", floor=0.3)
    np.testing.assert_allclose(weights(held, churn=0.1, bounds=(floor,)), [0.7, 0.3], atol=1e-9)


def test_reasons_say_what_was_before_and_what_holds_back():
    held = candidates([0.1, 0.9], [1.0, 1.0], previous=[1.0, 0.0])
    mixture = mix(held, budget=1000, objective=Objective(churn=0.1))
    assert mixture.reason_D[1] == (
        "Place 1 of 2 by estimate (0.9): gets 10 % of the mixture (cap 100 %), before it got nothing; "
        "at most 10 % changes at once."
    )


def test_the_bound_on_churn_has_a_price():
    held = candidates([0.1, 0.9], [1.0, 1.0], previous=[1.0, 0.0])
    objective = Objective(churn=0.1)
    mixture = mix(held, budget=1000, objective=objective)
    (price,) = shadow_prices(held, mixture, budget=1000, objective=objective)
    assert price.rule == "bound on churn"
    assert price.price == pytest.approx(0.8, abs=1e-5)  # less twice the tie of 1e-6
    assert price.sentence.startswith(
        "The bound on churn (10 % of the mixture) binds: one per cent more would add 0.008"
    )


def test_without_a_previous_mixture_nothing_holds_back():
    held = candidates([0.1, 0.9], [1.0, 1.0])
    np.testing.assert_allclose(weights(held, churn=0.1, hysteresis=3.0), [0.0, 1.0], atol=1e-15)


@settings(max_examples=40)
@given(histories(), histories(), st.sampled_from([0.1, 1.0]), st.sampled_from([0.0, 1.0]))
def test_the_worst_case_stays_where_it_is_best_and_changes_no_more_than_the_churn(one, two, churn, hysteresis):
    n = min(len(one[0].domains), len(two[0].domains))
    cap = one[0].cap_D[:n] / one[0].cap_D[:n].sum() * 1.5
    first, second = (
        {t: candidates(held[age].estimate_D[:n], cap, held[age].stderr_D[:n]) for t, held in (("s", one), ("t", two))}
        for age in (0, 1)
    )

    def solved(targets, previous=None, **settings):
        return mix_worst_case(
            {t: near(held, previous) for t, held in targets.items()}, budget=1000, objective=Objective(**settings)
        )

    # some target can gain: its estimates differ, and the caps leave a choice
    assume(all(any(np.ptp(held.estimate_D) > 0 for held in targets.values()) for targets in (first, second)))
    previous = solved(first)
    now = solved(second, previous.weight_D, churn=churn, hysteresis=hysteresis)
    assert changed(now.weight_D, previous.weight_D) <= churn + 1e-9
    again = solved(first, previous.weight_D, churn=churn, hysteresis=hysteresis)
    before, after = (gains(first, mixture, budget=1000) for mixture in (previous, again))
    smallest = min(value for value in before.values() if not math.isnan(value))
    # what differs by less than the tie, over a reach of at least 0.01, is as good
    assert min(value for value in after.values() if not math.isnan(value)) >= smallest - 1e-6


def test_the_worst_case_names_the_price_of_churn():
    targets = {
        "s": candidates([0.9, 0.1, 0.0], [1.0, 1.0, 1.0], previous=[0.0, 0.0, 1.0]),
        "t": candidates([0.1, 0.9, 0.0], [1.0, 1.0, 1.0], previous=[0.0, 0.0, 1.0]),
    }
    objective = Objective(churn=0.1)
    mixture = mix_worst_case(targets, budget=1000, objective=objective)
    np.testing.assert_allclose(mixture.weight_D, [0.05, 0.05, 0.9], atol=1e-9)
    prices = worst_case_prices(targets, mixture, budget=1000, objective=objective)
    # of both targets, a unit more of the mixture adds 0.5 to an expected estimate whose reach is 0.9 - 1 / 3
    assert {price.rule: price.price for price in prices} == pytest.approx(
        {"bound on churn": 0.5 / (0.9 - 1 / 3)}, rel=1e-4
    )


@pytest.mark.parametrize("setting", [{"churn": 0.0}, {"churn": 1.5}, {"hysteresis": -1.0}])
def test_settings_out_of_range_are_refused_by_field(setting):
    with pytest.raises(InputError, match=rf"objective\.{next(iter(setting))} is"):
        Objective(**setting)


def test_hysteresis_needs_standard_errors_and_the_linear_projection():
    held = Candidates(domains=["a"], estimate_D=[1.0], cap_D=[1.0], pool_D=[1.0], previous_D=[1.0])
    with pytest.raises(InputError, match="hysteresis is above 0, but no standard errors are given"):
        weights(held, hysteresis=1.0)
    with pytest.raises(InputError, match="need the projection 'linear', found 'kl'"):
        Objective(churn=0.5, projection="kl")


def test_the_mean_of_targets_stays_near_its_own_previous_mixture():
    targets = {"s": candidates([0.9, 0.0], [1.0, 1.0]), "t": candidates([0.0, 0.8], [1.0, 1.0])}
    mean = mean_candidates(targets)
    held = near(mean, [0.0, 1.0])
    np.testing.assert_allclose(weights(held, churn=0.25), [0.25, 0.75], atol=1e-9)
