"""Floors and ceilings for groups, against HiGHS called directly, and the prices of what binds."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from ppl_assets.errors import InputError
from ppl_assets.mixture import Candidates, GroupBound, Mixture, Objective, mix, shadow_prices


def candidates(estimate, caps, languages, kinds=None):
    """Domains d0, d1, ... whose pool is proportional to their caps."""
    labels = {"language": list(languages)} | ({"kind": list(kinds)} if kinds is not None else {})
    names = [f"d{i}" for i in range(len(caps))]
    return Candidates(domains=names, estimate_D=estimate, cap_D=caps, pool_D=caps, labels=labels)


def share(mixture: Mixture, held: Candidates, attribute: str, label: str) -> float:
    return math.fsum(w for w, found in zip(mixture.weight_D, held.labels[attribute], strict=True) if found == label)


@st.composite
def bounded_problems(draw):
    """Candidates of two attributes and bounds on one label of each, the second one feasible by construction."""
    n = draw(st.integers(3, 9))
    caps = np.array(draw(st.lists(st.integers(1, 100), min_size=n, max_size=n)), dtype=float)
    caps *= draw(st.sampled_from([1.0, 1.3, 4.0])) / caps.sum()
    estimate = np.array(draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))) / 4
    languages = ["de", *draw(st.lists(st.sampled_from(["de", "en", "fr"]), min_size=n - 1, max_size=n - 1))]
    kinds = ["web", *draw(st.lists(st.sampled_from(["web", "book"]), min_size=n - 1, max_size=n - 1))]
    held = candidates(estimate, caps, languages, kinds)
    # the pool itself satisfies the bounds, so that a mixture exists
    pool = caps / caps.sum()
    de = float(pool[np.array(languages) == "de"].sum())
    web = float(pool[np.array(kinds) == "web"].sum())
    below, above = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    bounds = (
        GroupBound(attribute="language", label="de", floor=min(de * below, 1.0), ceiling=1.0),
        GroupBound(attribute="kind", label="web", ceiling=min(web + (1 - web) * above, 1.0)),
    )
    return held, bounds


@given(bounded_problems(), st.sampled_from([0.0, 0.25]))
def test_weights_respect_bounds_caps_and_sum(problem, margin):
    held, bounds = problem
    mixture = mix(held, budget=1000, objective=Objective(bounds=bounds, safety_margin=margin))
    assert abs(math.fsum(mixture.weight_D) - 1) <= 1e-12
    assert (mixture.weight_D <= held.cap_D).all()
    for bound in bounds:
        assert bound.floor - 1e-12 <= share(mixture, held, bound.attribute, bound.label) <= bound.ceiling + 1e-12


@given(bounded_problems())
def test_the_mixture_is_optimal_against_highs(problem):
    held, bounds = problem
    rows = [np.array([found == bound.label for found in held.labels[bound.attribute]], dtype=float) for bound in bounds]
    best = linprog(
        -held.estimate_D,
        A_ub=np.array([-rows[0], rows[1]]),
        b_ub=[-bounds[0].floor, bounds[1].ceiling],
        A_eq=np.ones((1, len(held.domains))),
        b_eq=[1.0],
        bounds=[(0, cap) for cap in held.cap_D],
        method="highs-ipm",
    )
    ours = held.estimate_D @ mix(held, budget=1000, objective=Objective(bounds=bounds)).weight_D
    # HiGHS misses each of at most 12 rows and caps by up to 1e-7, and estimates are at most 1 in size; where it finds
    # the caps too tight by rounding it reports no optimum, and there is nothing to compare
    assert not best.success or ours >= -best.fun - 1.2e-6


@given(bounded_problems(), st.integers(0, 99))
def test_the_order_of_domains_does_not_matter(problem, seed):
    held, bounds = problem
    order = np.random.default_rng(seed).permutation(len(held.domains))
    shuffled = candidates(
        held.estimate_D[order],
        held.cap_D[order],
        [held.labels["language"][i] for i in order],
        [held.labels["kind"][i] for i in order],
    )
    objective = Objective(bounds=bounds)
    here = mix(held, budget=1000, objective=objective).weight_D
    there = mix(shuffled, budget=1000, objective=objective).weight_D
    np.testing.assert_allclose(there, here[order], rtol=0, atol=1e-12)


def test_a_floor_that_binds_moves_weight_and_has_a_price():
    held = candidates([0.5, 0.4, 0.1, 0.0], [0.5, 0.6, 0.5, 0.5], ["en", "en", "de", "de"])
    objective = Objective(bounds=(GroupBound(attribute="language", label="de", floor=0.2),))
    mixture = mix(held, budget=100, objective=objective)
    np.testing.assert_allclose(mixture.weight_D, [0.5, 0.3, 0.2, 0.0], atol=1e-12)
    prices = {price.rule: price for price in shadow_prices(held, mixture, budget=100, objective=objective)}
    # one unit less of German swaps estimate 0.1 for 0.4; one unit more of d0 swaps 0.4 for 0.5
    assert prices["floor of language 'de'"].price == pytest.approx(0.3, abs=1e-9)
    assert prices["cap of d0"].price == pytest.approx(0.1, abs=1e-9)
    assert list(prices) == ["floor of language 'de'", "cap of d0"]
    assert prices["floor of language 'de'"].sentence == (
        "The floor of language 'de' (20 % of the mixture) binds: "
        "one per cent less would add 0.003 to the expected estimate."
    )


def test_a_ceiling_that_binds_has_a_price():
    held = candidates([0.5, 0.4, 0.1], [0.5, 0.6, 0.9], ["en", "en", "de"])
    objective = Objective(bounds=(GroupBound(attribute="language", label="en", ceiling=0.5),))
    mixture = mix(held, budget=100, objective=objective)
    prices = {price.rule: price.price for price in shadow_prices(held, mixture, budget=100, objective=objective)}
    assert share(mixture, held, "language", "en") == pytest.approx(0.5, abs=1e-12)
    assert prices["ceiling of language 'en'"] == pytest.approx(0.3, abs=1e-9)


@pytest.mark.parametrize("margin", [0.0, 0.2])
@pytest.mark.parametrize("projection", ["linear", "l2", "kl"])
def test_the_price_of_a_cap_is_what_relaxing_it_adds_to_the_expected_estimate(projection, margin):
    """Not what it adds to the objective, which counts nearness to the estimates or to the pool as well."""
    estimate, caps, pool = (
        np.array([0.9, 0.5, 0.2, -0.3]),
        np.array([0.2, 0.5, 0.6, 1.0]),
        np.array([0.1, 0.2, 0.3, 0.4]),
    )
    objective = Objective(projection=projection, temperature=0.3, safety_margin=margin)

    def solved(cap_of_first):
        held = Candidates(domains=list("abcd"), estimate_D=estimate, cap_D=[cap_of_first, *caps[1:]], pool_D=pool)
        mixture = mix(held, budget=1000, objective=objective)
        return mixture.weight_D @ estimate, shadow_prices(held, mixture, budget=1000, objective=objective)

    step = 1e-6
    slope = (solved(0.2 + step)[0] - solved(0.2 - step)[0]) / (2 * step)
    price = next(price.price for price in solved(0.2)[1] if price.rule == "cap of a")
    assert slope > 0.1
    assert price == pytest.approx(slope, rel=1e-6)  # central difference of numbers with errors of 1e-16 / step


def test_a_cap_on_a_domain_of_low_estimate_has_no_price():
    """`kl` fills it because the pool is mostly that domain: more of it would lower the expected estimate."""
    held = Candidates(
        domains=list("abcd"), estimate_D=[0.05, 0.3, 0.2, 0.1], cap_D=[0.2, 1, 1, 1], pool_D=[0.9, 0.03, 0.03, 0.04]
    )
    objective = Objective(projection="kl", temperature=0.3)
    mixture = mix(held, budget=1000, objective=objective)
    assert mixture.decision_D[0] == "selected"
    assert shadow_prices(held, mixture, budget=1000, objective=objective) == []


@pytest.mark.parametrize("projection", ["l2", "kl"])
def test_with_bounds_too_every_price_is_what_relaxing_its_rule_adds_to_the_expected_estimate(projection):
    """Caps, a floor and a ceiling on groups that overlap, relaxed one at a time."""
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(12):
        estimate, pool = rng.uniform(-0.3, 0.6, 9), rng.uniform(0.5, 1.5, 9)
        languages, kinds = list("ddeeeffff"), list("wbwwbbwbw")
        caps = np.where(np.arange(9) % 4 == 0, 0.09, 1.0)

        def solved(cap_D, floor, ceiling, estimate=estimate, pool=pool, languages=languages, kinds=kinds):
            held = Candidates(
                domains=[f"d{i}" for i in range(9)],
                estimate_D=estimate,
                cap_D=cap_D,
                pool_D=pool,
                labels={"language": languages, "kind": kinds},
            )
            bounds = (
                GroupBound(attribute="language", label="f", floor=floor),
                GroupBound(attribute="kind", label="w", ceiling=ceiling),
            )
            objective = Objective(projection=projection, temperature=0.4, bounds=bounds)
            mixture = mix(held, budget=1000, objective=objective)
            prices = shadow_prices(held, mixture, budget=1000, objective=objective)
            return mixture.weight_D @ estimate, {price.rule: price.price for price in prices}

        step, limits = 1e-4, (0.55, 0.4)
        prices = solved(caps, *limits)[1]
        rules = {f"cap of d{i}": (step * (np.arange(9) == i), 0.0, 0.0) for i in range(9)} | {
            "floor of language 'f'": (0.0, -step, 0.0),
            "ceiling of kind 'w'": (0.0, 0.0, step),
        }
        for rule, (cap, floor, ceiling) in rules.items():
            more, less = (
                solved(caps + sign * cap, limits[0] + sign * floor, limits[1] + sign * ceiling)[0] for sign in (1, -1)
            )
            # bounds are kept within 1e-10, and a third derivative is of order 10
            assert prices.get(rule, 0.0) == pytest.approx(max((more - less) / (2 * step), 0.0), abs=1e-5), rule
        seen |= prices.keys()
    assert {"floor of language 'f'", "ceiling of kind 'w'", "cap of d0", "cap of d4"} <= seen


def test_the_safety_margin_is_priced_by_what_it_loses():
    held = candidates([0.5, 0.1], [1.0, 1.0], ["en", "de"])
    objective = Objective(safety_margin=0.5)
    mixture = mix(held, budget=100, objective=objective)
    prices = shadow_prices(held, mixture, budget=100, objective=objective)
    # half the mixture stays at 50:50, so a quarter is on the worse domain: 0.25 * 0.4 lost
    assert [(price.rule, round(price.price, 9)) for price in prices] == [("safety margin", 0.2)]


def test_a_fallback_has_no_prices():
    held = candidates([0.5, 0.1], [1.0, 1.0], ["en", "de"])
    mixture = mix(held, budget=100, verdict="abstain")
    assert shadow_prices(held, mixture, budget=100) == []


@pytest.mark.parametrize("margin", [0.0, 0.2])
@pytest.mark.parametrize("projection", ["l2", "kl"])
@pytest.mark.parametrize("side", ["floor", "ceiling"])
def test_the_price_of_a_bound_is_what_relaxing_it_adds_to_the_expected_estimate(side, projection, margin):
    estimate, pool = np.array([0.9, 0.5, 0.2, -0.3]), np.array([0.1, 0.2, 0.3, 0.4])

    def solved(share):
        held = Candidates(
            domains=list("abcd"),
            estimate_D=estimate,
            cap_D=[1.0] * 4,
            pool_D=pool,
            labels={"kind": ["x", "y", "x", "y"]},
        )
        label = "y" if side == "floor" else "x"
        bounds = (GroupBound(attribute="kind", label=label, **{side: share}),)
        objective = Objective(projection=projection, temperature=0.3, safety_margin=margin, bounds=bounds)
        mixture = mix(held, budget=1000, objective=objective)
        return mixture.weight_D @ estimate, shadow_prices(held, mixture, budget=1000, objective=objective)

    # bounds that the pool meets, so that the margin does not move with them
    step, (share, way) = 1e-5, {"floor": (0.59, -1), "ceiling": (0.41, 1)}[side]
    slope = (solved(share + way * step)[0] - solved(share - way * step)[0]) / (2 * step)
    price = next(price.price for price in solved(share)[1] if price.rule.startswith(side))
    assert slope > 0.01
    assert price == pytest.approx(slope, rel=1e-4)  # central difference: error of order step squared


@pytest.mark.parametrize("bound", [("de", {"floor": 0.3}), ("en", {"ceiling": 0.7})])
@pytest.mark.parametrize("projection", ["l2", "kl"])
def test_a_bound_that_leaves_a_group_all_that_it_holds_has_no_price_that_free_domains_could_tell(projection, bound):
    label, limit = bound
    held = candidates([0.1, 0.2, 0.5, 0.4], [0.15, 0.15, 1.0, 1.0], ["de", "de", "en", "en"])
    bounds = (GroupBound(attribute="language", label=label, **limit),)
    objective = Objective(projection=projection, bounds=bounds)
    mixture = mix(held, budget=1000, objective=objective)
    np.testing.assert_allclose(mixture.weight_D[:2], 0.15, rtol=0, atol=1e-10)
    rules = [price.rule for price in shadow_prices(held, mixture, budget=1000, objective=objective)]
    assert [rule for rule in rules if not rule.startswith("cap")] == []


def test_bounds_that_cannot_hold_name_the_least_change():
    held = candidates([0.5, 0.4, 0.1], [0.9, 0.6, 0.1], ["en", "en", "de"])
    with pytest.raises(InputError, match=re.escape("the floor of language 'de' lowered from 0.3 to 0.1")):
        mix(held, budget=100, objective=Objective(bounds=(GroupBound(attribute="language", label="de", floor=0.3),)))


@pytest.mark.parametrize(("side", "asked"), [("floor", 0.2), ("ceiling", 0.8)])
def test_the_change_that_an_error_names_is_enough(side, asked):
    """German texts hold 12.3456 % of the budget: to the nearest four digits their floor would still be too high."""
    held = candidates([0.1, 0.2, 0.3, 0.4], [0.061728, 0.061728, 0.7, 0.7], ["de", "de", "en", "en"])
    label = "de" if side == "floor" else "en"

    def mixture(share: float) -> Mixture:
        bound = GroupBound(attribute="language", label=label, **{side: share})
        return mix(held, budget=10**9, objective=Objective(bounds=(bound,)))

    with pytest.raises(InputError) as refused:
        mixture(asked)
    advice = {"floor": "lowered from 0.2 to 0.1234", "ceiling": "raised from 0.8 to 0.8766"}[side]
    assert str(refused.value).endswith(f"the {side} of language '{label}' {advice}")
    assert abs(math.fsum(mixture(float(advice.split()[-1])).weight_D) - 1) <= 1e-12


@pytest.mark.parametrize("verdict", [None, "abstain"])
@pytest.mark.parametrize("projection", ["linear", "l2", "kl"])
def test_a_floor_of_all_that_a_group_holds_is_kept_and_one_hardly_above_it_refused(projection, verdict):
    """HiGHS lets a bound be missed by 1e-7."""
    objective = Objective(
        projection=projection, bounds=(GroupBound(attribute="language", label="de", floor=0.3, ceiling=1.0),)
    )
    held = candidates([0.1, 0.2, 0.3, 0.4], [0.15, 0.15, 1.0, 1.0], ["de", "de", "en", "en"])
    weights = mix(held, budget=10**9, verdict=verdict, objective=objective).weight_D
    np.testing.assert_allclose(weights[:2], 0.15, rtol=0, atol=1e-10)
    assert abs(math.fsum(weights) - 1) <= 1e-12
    for short in (1e-11, 1e-10, 1e-9, 1e-8, 1e-7):
        less = candidates([0.1, 0.2, 0.3, 0.4], [0.15, 0.15 - short, 1.0, 1.0], ["de", "de", "en", "en"])
        with pytest.raises(InputError, match=re.escape("the floor of language 'de' lowered from 0.3 to 0.2999")):
            mix(less, budget=10**9, verdict=verdict, objective=objective)


@pytest.mark.parametrize("projection", ["linear", "l2", "kl"])
def test_caps_that_only_just_fill_the_mixture_are_held_to_the_bounds_too(projection):
    held = candidates([0.1, 0.2, 0.3], [0.25, 0.25, 0.5], ["de", "en", "en"])
    bound = GroupBound(attribute="language", label="de", floor=0.3)
    with pytest.raises(InputError, match=re.escape("the floor of language 'de' lowered from 0.3 to 0.25")):
        mix(held, budget=100, objective=Objective(projection=projection, bounds=(bound,)))


def test_caps_that_exactly_fill_the_mixture_leave_nothing_for_one_domain_more_within_bounds():
    for k in (49, 98, 103, 107, 161):
        held = candidates(np.arange(k + 3, 0.0, -1), np.full(k + 3, 1 / k), ["en"] * (k + 3))
        objective = Objective(bounds=(GroupBound(attribute="language", label="en", floor=0.5),))
        weights = mix(held, budget=10**9, objective=objective).weight_D
        assert math.fsum(held.cap_D[:k]) < 1
        np.testing.assert_array_equal(weights > 0, np.arange(k + 3) < k)


@pytest.mark.parametrize(
    ("attribute", "label", "sentence"),
    [
        ("langauge", "de", "the attribute 'langauge' (did you mean 'language'?): expected one of ['language']"),
        ("language", "dee", "no domain has language 'dee' (did you mean 'de'?)"),
    ],
)
def test_bounds_on_unknown_groups_are_refused_with_a_suggestion(attribute, label, sentence):
    held = candidates([0.5, 0.1], [1.0, 1.0], ["en", "de"])
    with pytest.raises(InputError, match=re.escape(sentence)):
        mix(held, budget=100, objective=Objective(bounds=(GroupBound(attribute=attribute, label=label, floor=0.1),)))


def test_bounds_out_of_range_are_refused():
    with pytest.raises(InputError, match="expected 0 <= floor <= ceiling <= 1"):
        GroupBound(attribute="language", label="de", floor=0.6, ceiling=0.5)
