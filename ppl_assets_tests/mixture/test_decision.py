"""The mixture of one target: every domain with weight, tokens, decision and reason."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl_assets.errors import InputError
from ppl_assets.mixture import Candidates, Objective, availability_caps, linear, mix


def candidates(*, estimate=(0.3, 0.2, 0.1, -0.1), tokens=(100, 200, 300, 400), budget=400, **more):
    """Domains a.org, b.org, ... with one epoch of their tokens as caps."""
    names = [f"{letter}.org" for letter in "abcdefghij"[: len(tokens)]]
    caps = more.pop("caps", None)
    return Candidates(
        domains=names,
        estimate_D=np.array(estimate),
        cap_D=availability_caps(tokens, budget=budget) if caps is None else caps,
        pool_D=np.array(tokens),
        **more,
    )


@st.composite
def drawn_candidates(draw):
    n = draw(st.integers(2, 8))
    tokens = draw(st.lists(st.integers(1, 1000), min_size=n, max_size=n))
    estimate = draw(st.lists(st.integers(-5, 5).map(lambda i: i / 5), min_size=n, max_size=n))
    budget = draw(st.integers(1, sum(tokens)))
    return candidates(estimate=estimate, tokens=tokens, budget=budget), budget


def test_the_best_domains_fill_their_caps_and_the_boundary_gets_the_rest():
    mixture = mix(candidates(), budget=400)
    assert mixture.decision_D == ["selected", "selected", "partial", "not selected"]
    np.testing.assert_allclose(mixture.weight_D, [0.25, 0.5, 0.25, 0.0], atol=1e-15)
    assert mixture.tokens_D.tolist() == [100, 200, 100, 0]
    assert mixture.reason_D[0] == "Place 1 of 4 by estimate (0.3): fills its cap (25 % of the mixture)."
    assert "at the boundary, gets 25 % of the mixture" in mixture.reason_D[2]


def test_abstaining_keeps_the_pool_and_says_so_even_without_an_estimate():
    mixture = mix(candidates(estimate=(0.3, np.nan, 0.1, -0.1)), budget=400, verdict="abstain")
    assert mixture.decision_D == ["fallback"] * 4
    np.testing.assert_allclose(mixture.weight_D, [0.1, 0.2, 0.3, 0.4], atol=1e-15)
    assert mixture.reason_D[1] == (
        "The evidence carries no choice for this target, so it keeps its share of the pool (20 %)."
    )


def test_abstaining_respects_caps_tighter_than_the_pool():
    mixture = mix(candidates(caps=np.array([1.0, 1.0, 1.0, 0.1])), budget=400, verdict="abstain")
    np.testing.assert_allclose(mixture.weight_D, [0.15, 0.3, 0.45, 0.1], atol=1e-15)


def test_shares_in_reasons_never_show_an_exponent():
    tokens = (1, 10**9, 10**9)
    held = candidates(estimate=(0.9, 0.5, 0.1), tokens=tokens, caps=np.array([1e-9, 25.0, 0.5]))
    reasons = mix(held, budget=400).reason_D
    assert reasons[0].endswith("fills its cap (below 0.001 % of the mixture).")
    assert reasons[1].endswith("which is what was left (cap 2,500 %).")


def test_excluded_domains_get_nothing_and_name_the_rule():
    mixture = mix(candidates(excluded={"a.org": "licence unknown"}), budget=400)
    assert mixture.decision_D == ["excluded", "selected", "partial", "not selected"]
    assert mixture.weight_D[0] == 0
    assert mixture.reason_D[0] == "Excluded: licence unknown."
    assert mixture.reason_D[1].startswith("Place 1 of 3")


def test_domains_without_estimate_or_text_cannot_compete():
    mixture = mix(candidates(estimate=(np.nan, 0.2, 0.1, 0.5), tokens=(100, 200, 300, 0)), budget=400)
    assert mixture.decision_D == ["excluded", "selected", "partial", "excluded"]
    assert mixture.reason_D[0] == "Excluded: no estimate could be made for it."
    assert mixture.reason_D[3] == "Excluded: the pool holds no text of it."


def test_weak_evidence_selects_and_warns():
    mixture = mix(candidates(), budget=400, verdict="weak")
    assert mixture.decision_D[0] == "selected"
    assert all("the evidence for this target is weak" in reason for reason in mixture.reason_D)


def test_the_table_has_exactly_the_public_columns():
    frame = mix(candidates(estimate=(0.3, np.nan, 0.1, -0.1)), budget=400).frame("qa")
    assert frame.columns == ["target", "domain", "weight", "cap", "estimate", "tokens", "decision", "reason"]
    assert frame["estimate"].to_list() == [0.3, None, 0.1, -0.1]
    assert frame["target"].unique().to_list() == ["qa"]


def test_too_few_usable_tokens_say_what_would_fit():
    with pytest.raises(
        InputError, match=re.escape("(1 are excluded) fill 600 tokens under their caps, but the budget is")
    ):
        mix(candidates(budget=800, excluded={"d.org": "retired"}), budget=800)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"domains": ["a", "b", "a"]}, "domain 'a' is given twice"),
        ({"cap_D": [1.0, 1.0]}, "cap_D has shape (2,): expected one number per domain (3)"),
        ({"cap_D": [1.0, np.nan, 1.0]}, "cap_D of domain 'b' is nan"),
        ({"pool_D": [1.0, 1.0, -2.0]}, "pool_D of domain 'c' is -2.0"),
        ({"excluded": {"z": "x"}}, "'z' is excluded but is no domain"),
    ],
)
def test_bad_candidates_are_refused_by_name(change, sentence):
    fine = {"domains": ["a", "b", "c"], "estimate_D": [1.0, 2.0, 3.0], "cap_D": [1.0] * 3, "pool_D": [1.0] * 3}
    with pytest.raises(InputError, match=re.escape(sentence)):
        Candidates(**(fine | change))


def test_a_lower_confidence_objective_needs_standard_errors():
    with pytest.raises(InputError, match="expected stderr_D"):
        mix(candidates(), budget=400, objective=Objective(lower_confidence=1))


def test_a_lower_confidence_objective_prefers_the_surer_domain():
    held = candidates(estimate=(0.5, 0.4, 0.1, 0.1), stderr_D=np.array([0.3, 0.05, 0.1, np.nan]), budget=200)
    mixture = mix(held, budget=200, objective=Objective(lower_confidence=1))
    assert mixture.decision_D == ["not selected", "selected", "not selected", "excluded"]
    assert "lower bound of the estimate (0.35)" in mixture.reason_D[1]


@given(drawn_candidates(), st.sampled_from(["linear", "l2", "kl"]), st.sampled_from([0.0, 0.3, 1.0]))
def test_weights_are_a_distribution_under_the_caps_and_tokens_fill_the_budget(drawn, projection, margin):
    held, budget = drawn
    mixture = mix(held, budget=budget, objective=Objective(projection=projection, safety_margin=margin))
    assert abs(math.fsum(mixture.weight_D) - 1) <= 1e-12
    assert (mixture.weight_D <= held.cap_D).all()
    assert (mixture.weight_D >= 0).all()
    assert int(mixture.tokens_D.sum()) == budget


@given(drawn_candidates(), st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted))
def test_a_larger_safety_margin_never_raises_the_expected_estimate(drawn, margins):
    held, budget = drawn
    value = [
        held.estimate_D @ mix(held, budget=budget, objective=Objective(safety_margin=margin)).weight_D
        for margin in margins
    ]
    assert value[1] <= value[0] + 1e-12


@given(drawn_candidates(), st.floats(0, 1))
def test_the_safety_margin_keeps_its_share_of_the_pool_in_every_domain(drawn, margin):
    held, budget = drawn
    pool = held.pool_D / held.pool_D.sum()  # one epoch of the pool always fits under one-epoch caps
    mixture = mix(held, budget=budget, objective=Objective(safety_margin=margin))
    assert (mixture.weight_D >= margin * pool - 1e-12).all()


@given(drawn_candidates())
def test_the_default_is_the_linear_projection(drawn):
    held, budget = drawn
    expected = linear(held.estimate_D, held.cap_D)
    np.testing.assert_allclose(mix(held, budget=budget).weight_D, expected, rtol=0, atol=1e-15)


@given(drawn_candidates(), st.sampled_from(["linear", "l2", "kl"]), st.integers(0, 99))
def test_the_order_of_domains_does_not_matter(drawn, projection, seed):
    held, budget = drawn
    order = np.random.default_rng(seed).permutation(len(held.domains))
    shuffled = Candidates(
        domains=[held.domains[i] for i in order],
        estimate_D=held.estimate_D[order],
        cap_D=held.cap_D[order],
        pool_D=held.pool_D[order],
    )
    objective = Objective(projection=projection, safety_margin=0.1)
    here = mix(held, budget=budget, objective=objective)
    there = mix(shuffled, budget=budget, objective=objective)
    np.testing.assert_allclose(there.weight_D, here.weight_D[order], rtol=0, atol=1e-12)
    assert list(there.decision_D) == [here.decision_D[i] for i in order]


def test_a_low_temperature_is_the_linear_choice_and_a_high_one_the_pool():
    held = candidates()
    cold = mix(held, budget=400, objective=Objective(projection="kl", temperature=1e-4)).weight_D
    hot = mix(held, budget=400, objective=Objective(projection="kl", temperature=1e6)).weight_D
    np.testing.assert_allclose(cold, [0.25, 0.5, 0.25, 0.0], atol=1e-12)
    np.testing.assert_allclose(hot, [0.1, 0.2, 0.3, 0.4], atol=1e-6)  # tilt of 4e-7 at most


@pytest.mark.parametrize(
    "wrong", [{"projection": "best"}, {"temperature": 0.0}, {"safety_margin": 1.1}, {"lower_confidence": -1.0}]
)
def test_an_objective_out_of_range_is_refused_by_field(wrong):
    with pytest.raises(InputError, match=f"objective.{next(iter(wrong))} is"):
        Objective(**wrong)
