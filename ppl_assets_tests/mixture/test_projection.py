"""Projections against exact rational arithmetic, scipy's HiGHS, and the published package where that is right."""

import math
import re
from fractions import Fraction

import numpy as np
import perplexity_correlations.projection as published
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from ppl_assets.errors import InputError
from ppl_assets.mixture import l2, linear
from ppl_assets.mixture.projection import relative_entropy


def exact_linear(estimate, tau):
    """Theorem 2 of the paper in rational arithmetic, tie groups sharing in proportion to their caps."""
    room, weights = Fraction(1), [Fraction(0)] * len(tau)
    for value in sorted(set(estimate), reverse=True):
        group = [j for j, e in enumerate(estimate) if e == value]
        held = sum(Fraction(tau[j]) for j in group)
        share = min(Fraction(1), room / held)
        for j in group:
            weights[j] = share * Fraction(tau[j])
        room -= share * held
    return np.array([float(w) for w in weights])


def exact_l2(estimate, tau):
    """clip(estimate + c, 0, tau) in rational arithmetic: walk the kinks of the total until it passes 1."""
    e, t = [Fraction(x) for x in estimate], [Fraction(x) for x in tau]

    def total(c):
        return sum(min(max(x + c, Fraction(0)), cap) for x, cap in zip(e, t, strict=True))

    kinks = sorted({-x for x in e} | {cap - x for x, cap in zip(e, t, strict=True)})
    right = next((c for c in kinks if total(c) >= 1), kinks[-1])
    left = max((c for c in kinks if c < right), default=right)
    slope = (total(right) - total(left)) / (right - left) if right > left else Fraction(0)
    c = left + (1 - total(left)) / slope if slope else right
    return np.array([float(min(max(x + c, Fraction(0)), cap)) for x, cap in zip(e, t, strict=True)])


@st.composite
def problems(draw, max_domains=12):
    """(estimate, tau): few distinct estimates, so that ties are common; caps that sum to 1 or more."""
    n = draw(st.integers(1, max_domains))
    estimate = draw(st.lists(st.integers(-4, 4).map(lambda i: i / 4), min_size=n, max_size=n))
    raw = np.array(draw(st.lists(st.integers(1, 1000), min_size=n, max_size=n)), dtype=float)
    slack = draw(st.sampled_from([1.0, 1.0 + 1e-13, 1.5, 10.0]))
    return np.array(estimate), raw / raw.sum() * slack


def feasible_case(rng, *, dyadic):
    """Random estimates without ties and caps with sum above 1; `dyadic` caps are multiples of 2^-20."""
    n = int(rng.integers(2, 60))
    tau = rng.uniform(0.01, 1, n)
    tau *= rng.uniform(1.05, 4) / tau.sum()
    return rng.normal(size=n), np.ceil(tau * 2**20) / 2**20 if dyadic else tau


def test_linear_equals_the_published_package_on_a_thousand_cases_without_ties():
    # The package returns float32. Caps that are multiples of 2^-20 and their sums below 1 are exact there, so that
    # parity is exact too and a tolerance of 1e-9 has a meaning.
    rng = np.random.default_rng(0)
    for _ in range(1000):
        estimate, tau = feasible_case(rng, dyadic=True)
        np.testing.assert_allclose(linear(estimate, tau), published.linear(estimate, tau), rtol=0, atol=1e-9)


def test_l2_equals_the_published_package_on_a_thousand_cases_without_ties():
    rng = np.random.default_rng(1)
    for _ in range(1000):
        estimate, tau = feasible_case(rng, dyadic=False)
        np.testing.assert_allclose(l2(estimate, tau), published.l2(estimate, tau), rtol=0, atol=1e-9)


@given(problems())
def test_linear_equals_rational_arithmetic_with_ties(problem):
    # each weight: one sum rounded once, one quotient, one product: 4 roundings of 2^-53 of at most 1
    np.testing.assert_allclose(linear(*problem), exact_linear(*problem), rtol=0, atol=1e-12)


@given(problems())
def test_l2_equals_rational_arithmetic_with_ties(problem):
    np.testing.assert_allclose(l2(*problem), exact_l2(*problem), rtol=0, atol=1e-12)


@pytest.mark.parametrize("projection", [linear, l2, relative_entropy])
@given(problem=problems())
def test_weights_are_a_distribution_under_the_caps(projection, problem):
    weights = projection(*problem)
    assert abs(math.fsum(weights) - 1) <= 1e-12
    assert (weights >= 0).all()
    assert (weights <= problem[1]).all()


@pytest.mark.parametrize("projection", [linear, l2, relative_entropy])
def test_caps_that_exactly_fill_the_mixture_leave_nothing_for_one_domain_more(projection):
    """k caps of 1/k sum to 1 - 2^-53 for many k, and the next domain got 2^-53 of the mixture."""
    short = 0
    for k in range(1, 400):
        caps = np.full(k + 5, 1 / k)
        weights = projection(np.arange(k + 5, 0.0, -1) * 1000, caps)
        np.testing.assert_array_equal(weights > 0, np.arange(k + 5) < k)
        assert abs(math.fsum(weights) - 1) <= 1e-14
        short += math.fsum(caps[:k]) < 1
    assert short >= 20  # the case is there


@pytest.mark.parametrize("projection", [linear, l2, relative_entropy])
@given(problem=problems(), seed=st.integers(0, 99))
def test_the_order_of_domains_does_not_matter(projection, problem, seed):
    estimate, tau = problem
    order = np.random.default_rng(seed).permutation(len(tau))
    np.testing.assert_allclose(
        projection(estimate[order], tau[order]), projection(estimate, tau)[order], rtol=0, atol=1e-14
    )


@given(problems())
def test_linear_is_optimal_against_highs(problem):
    estimate, tau = problem
    tau = tau * (1 + 1e-9)  # HiGHS needs room for its own tolerance of 1e-7 where the caps sum to exactly 1
    best = linprog(-estimate, A_eq=np.ones((1, len(tau))), b_eq=[1.0], bounds=[(0, cap) for cap in tau])
    assert best.success
    # HiGHS: primal feasibility tolerance 1e-7 on one equality, estimates at most 1
    assert estimate @ linear(estimate, tau) >= -best.fun - 2e-7


FAILING = {
    "caps that sum to exactly 1": ([0.3, 0.1, 0.2, 0.4], [0.25, 0.5, 0.125, 0.125]),
    "caps that sum to just below 1": ([0.3, 0.1, 0.2], [0.25, 0.5, 0.25 - 1e-12 / 2]),
    "caps that sum to just above 1": ([0.3, 0.1, 0.2], [0.25, 0.5, 0.25 + 1e-12]),
    "estimates of a million": ([1e6, -1e6, 1e6 + 1, 999_999.5], [0.3, 0.9, 0.4, 0.6]),
    "ties at the boundary": ([0.5, 0.2, 0.2, 0.2, 0.1], [0.4, 0.5, 0.3, 0.2, 0.9]),
    "all tied": ([0.2, 0.2, 0.2], [0.5, 0.7, 0.9]),
    "one domain": ([-3.0], [1.0]),
}


@pytest.mark.parametrize(("estimate", "tau"), FAILING.values(), ids=FAILING)
def test_where_the_published_package_fails_linear_is_as_good_as_highs_and_l2_is_exact(estimate, tau):
    best = linprog(
        -np.array(estimate), A_eq=np.ones((1, len(tau))), b_eq=[1.0], bounds=[(0, cap) for cap in tau], method="highs"
    )
    assert best.success
    weights = linear(estimate, tau)
    assert abs(math.fsum(weights) - 1) <= 1e-12
    # HiGHS: 1e-7 on the one equality, per unit of the estimates
    assert weights @ np.array(estimate) >= -best.fun - 2e-7 * np.abs(estimate).max()
    np.testing.assert_allclose(l2(estimate, tau), exact_l2(estimate, tau), rtol=0, atol=1e-12)


@pytest.mark.parametrize("total", [1.0, 1 - 1e-12 / 2, 1 + 1e-12, 1 - 2**-53])
@pytest.mark.parametrize("projection", [linear, l2, relative_entropy])
def test_caps_that_sum_to_one_up_to_rounding_are_filled(projection, total):
    # the package fails on 132 of 200 such draws (float sums below 1, or no index with a running sum of 1)
    rng = np.random.default_rng(2)
    for n in range(1, 200):
        tau = rng.lognormal(size=n)
        tau *= total / math.fsum(tau)
        np.testing.assert_allclose(projection(rng.normal(size=n), tau), tau, rtol=0, atol=2e-12)


@pytest.mark.parametrize("magnitude", [1e-300, 1e-6, 1e4, 1e6, 1e12, 1e300])
def test_estimates_of_any_magnitude_are_projected_exactly(magnitude):
    # at 1e5 the package's bisection never reaches its absolute tolerance and does not return
    rng = np.random.default_rng(3)
    estimate, tau = rng.normal(size=40) * magnitude, rng.uniform(0.01, 0.2, 40)
    near = estimate.max() - np.arange(40) * np.spacing(estimate.max()) * 3  # close together at a large value
    for values in (estimate, near):
        np.testing.assert_allclose(linear(values, tau), exact_linear(values, tau), rtol=0, atol=1e-12)
        np.testing.assert_allclose(l2(values, tau), exact_l2(values, tau), rtol=0, atol=1e-12)
        assert abs(math.fsum(relative_entropy(values, tau)) - 1) <= 1e-12


def test_tied_domains_share_what_is_left_in_proportion_to_their_caps():
    np.testing.assert_allclose(linear([5, 1, 1, 0], [0.4, 0.6, 0.3, 1]), [0.4, 0.4, 0.2, 0], atol=1e-15)
    np.testing.assert_allclose(linear([1, 1], [1.5, 0.5]), [0.75, 0.25], atol=1e-15)


@pytest.mark.parametrize("projection", [linear, l2, relative_entropy])
def test_one_domain_gets_everything(projection):
    assert projection([-3.0], [1.0]).tolist() == [1.0]
    assert projection([-3.0], [7.0]).tolist() == [1.0]


def test_many_domains_sum_to_one():
    # 300,000 equal caps: a running float64 sum alone is off by more than the tolerance here
    n = 300_000
    rng = np.random.default_rng(4)
    for tau in (np.full(n, 3 / n), np.full(n, 1 / n), rng.lognormal(size=n) / n):
        for projection in (linear, l2, relative_entropy):
            for estimate in (rng.normal(size=n), np.full(n, 0.1)):
                weights = projection(estimate, tau)
                assert abs(math.fsum(weights) - 1) <= 1e-12
                assert (weights <= tau).all()


@given(problems(max_domains=6), st.sampled_from([0.05, 0.3, 2.0]))
def test_relative_entropy_maximises_estimate_less_divergence_from_the_pool(problem, temperature):
    estimate, tau = problem
    pool = tau / tau.sum()
    weights = relative_entropy(np.log(pool) + estimate / temperature, tau)

    def value(w):
        positive = np.maximum(w, 1e-300)
        return w @ estimate - temperature * (positive * np.log(positive / pool)).sum()

    # Concave problem: no exchange of mass between two domains within the caps may gain.
    step = 1e-4
    for i in range(len(tau)):
        for j in range(len(tau)):
            moved = weights.copy()
            amount = min(step, moved[i], tau[j] - moved[j])
            moved[i] -= amount
            moved[j] += amount
            assert i == j or value(moved) <= value(weights) + 1e-12


def test_l2_is_the_nearest_mixture_by_a_general_solver():
    rng = np.random.default_rng(5)
    estimate, tau = rng.normal(size=8), rng.uniform(0.1, 0.5, 8)
    found = minimize(
        lambda w: ((w - estimate) ** 2).sum(),
        np.full(8, 1 / 8),
        jac=lambda w: 2 * (w - estimate),
        bounds=[(0, cap) for cap in tau],
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(8)},
        options={"ftol": 1e-15},
    )
    np.testing.assert_allclose(l2(estimate, tau), found.x, atol=1e-6)  # SLSQP stops near the root of its ftol


@pytest.mark.parametrize("projection", [linear, l2])
@pytest.mark.parametrize(
    ("estimate", "tau", "sentence"),
    [
        ([1.0, np.nan], [1.0, 1.0], "estimate: domain 'b.org' has nan"),
        ([1.0, 2.0], [1.0, np.nan], "cap (tau): domain 'b.org' has nan"),
        ([1.0, np.inf], [1.0, 1.0], "estimate: domain 'b.org' has inf"),
        ([1.0, 2.0], [0.0, -1.0], "cap (tau): domain 'a.org' has 0.0, domain 'b.org' has -1.0"),
        ([1.0, 2.0], [0.3, 0.4], "the caps (tau) of 2 domains ('a.org', 'b.org') sum to 0.7: expected at least 1"),
        ([1.0, 2.0], [1.0], "2 estimates but 1 caps (tau)"),
        ([[1.0, 2.0]], [1.0, 1.0], "estimate has shape (1, 2)"),
        ([], [], "estimate has shape (0,)"),
    ],
)
def test_bad_input_is_refused_by_name(projection, estimate, tau, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        projection(estimate, tau, domains=["a.org", "b.org"])


def test_bad_input_without_names_is_refused_by_number():
    with pytest.raises(InputError, match="domain number 1 has nan"):
        linear([1.0, np.nan], [1.0, 1.0])
