"""Caps from what domains hold, and whole tokens that sum to the budget."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl_assets.errors import InputError
from ppl_assets.mixture import availability_caps, integer_tokens


def test_a_cap_is_what_the_domain_holds_over_the_budget():
    assert availability_caps([30, 0, 100], budget=100).tolist() == [0.3, 0.0, 1.0]


def test_epochs_multiply_caps_and_single_domains_can_differ():
    caps = availability_caps(
        [30, 60, 100], budget=100, max_epochs=2, overrides={"b.org": 0.5}, domains=["a.org", "b.org", "c.org"]
    )
    assert caps.tolist() == [0.6, 0.3, 2.0]


def test_too_little_text_says_which_budget_and_which_epochs_would_fit():
    with pytest.raises(InputError, match=r"hold 1,050 tokens.*at most 1,050, or raise max_epochs to at least 3.81"):
        availability_caps([450, 600], budget=4000)
    caps = availability_caps([450, 600], budget=4000, max_epochs=3.81)
    assert math.fsum(caps) >= 1


def test_too_little_text_even_at_four_epochs_asks_for_more_text():
    with pytest.raises(InputError, match="even max_epochs = 4 would not be enough"):
        availability_caps([10, 20], budget=121)


def test_a_budget_of_all_tokens_is_feasible_whatever_the_rounding():
    rng = np.random.default_rng(0)
    for _ in range(200):
        tokens = rng.integers(1, 10**9, size=int(rng.integers(1, 300)))
        assert abs(math.fsum(availability_caps(tokens, budget=int(tokens.sum()))) - 1) < 1e-12


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"max_epochs": 5}, "max_epochs is 5: expected a number above 0 and at most 4"),
        ({"max_epochs": math.nan}, "max_epochs is nan"),
        ({"budget": 0}, "the budget is 0 tokens"),
        ({"budget": 2**51}, "expected a whole number from 1 to"),
        ({"budget": 10.5}, "the budget is 10.5 tokens"),
        ({"overrides": {"b.ogr": 2}}, "'b.ogr', which is no domain (did you mean 'b.org'?)"),
        ({"overrides": {"b.org": 0}}, "max_epochs of 'b.org' is 0"),
        ({"overrides": {"b.org": 2}, "domains": None}, "expected `domains` as well"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        availability_caps([50, 60], **({"budget": 100, "domains": ["a.org", "b.org"]} | arguments))


def test_a_negative_token_count_is_refused_by_name():
    with pytest.raises(InputError, match=re.escape("domain 'b.org' holds -1.0 tokens")):
        availability_caps([50, -1], budget=10, domains=["a.org", "b.org"])


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50).filter(any), st.integers(1, 2**50))
def test_whole_tokens_sum_to_the_budget_and_are_within_one_of_their_share(parts, budget):
    weights = np.array(parts) / sum(parts)
    tokens = integer_tokens(weights, budget)
    assert int(tokens.sum()) == budget
    assert all(count == 0 for count, part in zip(tokens, parts, strict=True) if part == 0)
    for count, weight in zip(tokens.tolist(), weights.tolist(), strict=True):
        # a share of 2^50 tokens is known to 3 * 2^-53 of itself: below 0.4 of a token
        assert abs(count - Fraction(weight) * budget) < 1.4


def test_whole_tokens_of_a_million_domains_sum_to_the_budget():
    weights = np.random.default_rng(1).lognormal(size=1_000_000)
    assert int(integer_tokens(weights / weights.sum(), 10**13 + 1).sum()) == 10**13 + 1


@pytest.mark.parametrize("weights", [[0.5, 0.4], [1.5, -0.5], [np.nan, 1.0], [[1.0]]])
def test_weights_that_are_no_distribution_are_refused(weights):
    with pytest.raises(InputError, match="weights"):
        integer_tokens(weights, 10)
