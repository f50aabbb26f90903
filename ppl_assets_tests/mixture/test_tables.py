"""A study's mixtures from its tables: the demo study's two targets, with made-up estimates of known order."""

import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.mixture.changes import mixture_before
from ppl_assets.mixture.tables import mixture_tables
from ppl_assets.schema import TABLES
from ppl_assets.study import Study, parse_study
from ppl_assets.study.schema import Estimation

NOTHING = mixture_before(TABLES["mixture_changes"].polars_schema.to_frame(), same_inputs=False)
PACKAGES = ("asyncio", "email", "numpy", "rich")
DOMAINS = [f"{package}/{kind}" for package in PACKAGES for kind in ("code", "prose")]
ALL = "combine: [mean, max_min, pareto], front_points: 5"


def study(mixture: str, gate: bool = True) -> Study:
    text = f"""\
name: two
targets:
  code: {{tasks: [{{task: c, metric: m, kind: bpb}}]}}
  prose: {{tasks: [{{task: p, metric: m, kind: bpb}}]}}
estimation: {{gate: {str(gate).lower()}}}
mixture: {{{mixture}}}
"""
    return parse_study(text, where="study.yaml", folder=Path())


def catalog(denied: str | None = None) -> pl.DataFrame:
    rows = [
        {
            "domain": domain,
            "domain_group": domain.split("/")[1],
            "pages": 10,
            "bytes": 4000,
            "tokens": 1000,
            "language": None,
            "license": "mit" if domain.startswith("rich") else "bsd",
            "maker": domain.split("/")[0],
            "policy": "deny" if domain == denied else "allow",
            "policy_reason": "not ours (legal, 2026-01-31)" if domain == denied else None,
        }
        for domain in DOMAINS
    ]
    return pl.DataFrame(rows, schema=TABLES["domains"].polars_schema)


def estimates(shift: float = 0.0) -> pl.DataFrame:
    """Each target's own kind is 0.6 ahead; the first package is best, the others follow by 0.01."""
    rows = [
        {
            "target": target,
            "estimator": Estimation().estimator,
            "domain": domain,
            "estimate": 0.3 * (1 if domain.endswith(target) else -1) - 0.01 * (number // 2) + shift * (number == 6),
            "stderr": 0.02,
            "models": 30,
        }
        for target in ("code", "prose")
        for number, domain in enumerate(DOMAINS)
    ]
    return pl.DataFrame(rows, schema=TABLES["correlation_estimates"].polars_schema)


def verdicts(code: str = "select", prose: str = "select") -> pl.DataFrame:
    return pl.DataFrame({"target": ["code", "prose"], "verdict": [code, prose]})


def made(mixture: str, *, before: pl.DataFrame = NOTHING, **more) -> dict[str, pl.DataFrame]:
    return mixture_tables(
        study(mixture),
        domains=more.get("domains", catalog()),
        estimates=more.get("estimates", estimates()),
        verdicts=more.get("verdicts", verdicts()),
        before=before,
    )


def weights(tables: dict[str, pl.DataFrame], name: str) -> dict[str, float]:
    rows = tables["pretraining_mixture"].filter(pl.col("target") == name)
    return dict(rows.select("domain", "weight").iter_rows())


def of_kind(tables: dict[str, pl.DataFrame], name: str, kind: str) -> float:
    return math.fsum(weight for domain, weight in weights(tables, name).items() if domain.endswith(kind))


def test_all_rows_fit_the_declared_tables():
    tables = made(f"keep: 0.25, {ALL}")
    assert [*tables] == ["pretraining_mixture", "mixture_gains", "shadow_prices", "mixture_changes"]
    for name, frame in tables.items():
        assert frame.columns == [*TABLES[name].by_name], name
        assert not frame.select(TABLES[name].keys).is_duplicated().any(), name


def test_combined_mixtures_stand_next_to_those_of_the_targets():
    alone, tables = made("keep: 0.25"), made(f"keep: 0.25, {ALL}")
    single = tables["pretraining_mixture"].filter(pl.col("kind") == "target")
    assert single.drop("used").equals(alone["pretraining_mixture"].drop("used"))
    names = tables["pretraining_mixture"]["target"].unique(maintain_order=True).to_list()
    assert names[:4] == ["code", "prose", "mean", "max_min"]
    assert names[4:] == [f"pareto-{number}" for number in range(1, 6)]
    sums = tables["pretraining_mixture"].group_by("target").agg(pl.sum("weight"), pl.sum("tokens"))
    np.testing.assert_allclose(sums["weight"], 1, atol=1e-12)
    assert set(sums["tokens"]) == {2000}


def test_the_gains_say_what_each_mixture_brings_to_each_target():
    tables = made(f"keep: 0.25, {ALL}")
    gains = {(m, t): g for m, t, g in tables["mixture_gains"].select("mixture", "target", "gain").iter_rows()}
    assert gains["code", "code"] == pytest.approx(1, abs=1e-12)
    assert gains["code", "prose"] < 0
    assert gains["max_min", "code"] == pytest.approx(gains["max_min", "prose"], abs=1e-9)
    front = [(gains[f"pareto-{k}", "code"], gains[f"pareto-{k}", "prose"]) for k in range(1, 6)]
    assert front == sorted(front, reverse=True)
    assert [prose for _, prose in front] == sorted(prose for _, prose in front)
    assert front[0][0] == pytest.approx(1, abs=1e-9)
    assert front[-1][1] == pytest.approx(1, abs=1e-9)


def test_a_point_of_the_front_is_made_again_by_its_target_weights():
    tables = made(f"keep: 0.25, {ALL}")
    shares = tables["mixture_gains"].filter(pl.col("mixture") == "pareto-2").select("target", "target_weight").rows()
    stated = ", ".join(f"{target}: {weight}" for target, weight in shares)
    again = made(f"keep: 0.25, combine: [max_min], target_weights: {{{stated}}}")
    assert weights(again, "max_min") == pytest.approx(weights(tables, "pareto-2"), abs=1e-9)


def test_a_floor_for_a_kind_binds_and_is_priced():
    bound = "bounds: [{attribute: group, label: prose, floor: 0.4}]"
    tables = made(f"keep: 0.25, {bound}, {ALL}")
    for name in tables["pretraining_mixture"]["target"].unique():
        assert of_kind(tables, name, "prose") >= 0.4 - 1e-12
    assert of_kind(tables, "code", "prose") == pytest.approx(0.4, abs=1e-12)
    prices = {(t, r): p for t, r, p in tables["shadow_prices"].select("target", "rule", "price").iter_rows()}
    # a unit less of prose swaps the first prose domain, at -0.3, for the first code domain below its cap, at 0.29
    assert prices["code", "floor of group 'prose'"] == pytest.approx(0.59, abs=1e-9)
    assert ("prose", "floor of group 'prose'") not in prices
    assert prices["code", "cap of asyncio/code"] == pytest.approx(0.01, abs=1e-9)
    reasons = dict(
        tables["pretraining_mixture"].filter(pl.col("target") == "code").select("domain", "reason").iter_rows()
    )
    assert "which is what caps and bounds on groups left" in reasons["asyncio/prose"]


@pytest.mark.parametrize(
    ("bound", "sentence"),
    [
        (
            "{attribute: group, label: proze, floor: 0.1}",
            "study field mixture.bounds: no domain has group 'proze' (did you mean 'prose'?)",
        ),
        (
            "{attribute: maker, label: rich, floor: 0.6}",
            "study field mixture, mixture 'code': no mixture satisfies all bounds on groups under the caps; "
            "the least change would be the floor of maker 'rich' lowered from 0.6 to 0.5",
        ),
    ],
)
def test_bounds_that_cannot_be_met_are_refused_by_field(bound, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        made(f"keep: 0.5, bounds: [{bound}]")


def test_the_mixture_to_use_is_marked():
    def used(mixture: str) -> list[str]:
        tables = made(mixture)
        return tables["pretraining_mixture"].filter(pl.col("used"))["target"].unique().to_list()

    assert used("keep: 0.25") == []
    assert used("keep: 0.25, use: prose") == ["prose"]
    assert used("keep: 0.25, combine: [pareto, max_min, mean]") == ["max_min"]
    assert used("keep: 0.25, combine: [max_min, mean], use: mean") == ["mean"]


def test_a_target_without_evidence_has_no_say_in_combined_mixtures():
    tables = made(f"keep: 0.25, {ALL}", verdicts=verdicts(prose="abstain"))
    assert weights(tables, "mean") == pytest.approx(weights(tables, "code"), abs=1e-12)
    assert weights(tables, "max_min") == pytest.approx(weights(tables, "code"), abs=1e-9)
    gains = tables["mixture_gains"].filter(pl.col("target") == "prose")
    assert gains["gain"].null_count() == gains.height
    weight = gains.filter(pl.col("mixture") == "mean")["target_weight"].item()
    assert weight == 0


def test_where_the_gate_abstains_for_all_targets_every_mixture_falls_back_to_the_pool():
    tables = made(f"keep: 0.25, {ALL}", verdicts=verdicts("abstain", "abstain"))
    mixtures = tables["pretraining_mixture"]
    assert set(mixtures["target"]) == {"code", "prose", "mean", "max_min"}
    assert set(mixtures["decision"]) == {"fallback"}
    np.testing.assert_allclose(mixtures["weight"], 1 / 8, atol=1e-12)
    assert tables["shadow_prices"].is_empty()


def test_weak_evidence_for_one_target_is_a_caution_in_what_combines_them():
    tables = made(f"keep: 0.25, {ALL}", verdicts=verdicts(prose="weak"))
    for name, weak in (("code", False), ("mean", True), ("max_min", True)):
        reasons = tables["pretraining_mixture"].filter(pl.col("target") == name)["reason"]
        assert all(("is weak" in reason) == weak for reason in reasons), name


def test_denied_domains_are_excluded_from_every_mixture_with_the_rule():
    tables = made(f"keep: 0.25, {ALL}", domains=catalog(denied="rich/code"))
    rows = tables["pretraining_mixture"].filter(pl.col("domain") == "rich/code")
    assert set(rows["decision"]) == {"excluded"}
    assert set(rows["weight"]) == {0.0}
    assert set(rows["reason"]) == {"Excluded: policy: not ours (legal, 2026-01-31)."}


def test_a_small_change_of_evidence_changes_nothing_under_hysteresis_and_is_told_without_it():
    for settings, change in (("hysteresis: 1", {"same"}), ("churn: 0.9", {"same", "entered", "moved"})):
        stated = f"keep: 0.125, use: code, {settings}"
        first = made(stated)
        before = mixture_before(first["mixture_changes"], same_inputs=False)
        # rich/code was 0.03 behind asyncio/code and is now 0.02 ahead: half of the two standard errors
        second = made(stated, estimates=estimates(shift=0.05), before=before)
        assert set(second["mixture_changes"].filter(pl.col("target") == "code")["change"]) == change


def test_a_bound_on_churn_holds_for_every_mixture_but_a_first_choice_is_free():
    stated = "keep: 0.25, combine: [mean, max_min], churn: 0.1"
    first = made(stated, verdicts=verdicts("abstain", "abstain"))
    second = made(stated, before=mixture_before(first["mixture_changes"], same_inputs=False))
    assert weights(second, "code") == pytest.approx(weights(made(stated), "code"), abs=1e-12)
    third = made(stated, estimates=estimates(1.0), before=mixture_before(second["mixture_changes"], same_inputs=False))
    for name in ("code", "prose", "mean", "max_min"):
        one, other = (np.array([*weights(tables, name).values()]) for tables in (second, third))
        assert np.abs(one - other).sum() / 2 <= 0.1 + 1e-9, name
    changed = third["mixture_changes"].filter(pl.col("why").is_not_null(), pl.col("target") == "code")
    assert ("rich/code", "entered", "Its estimate rose from 0.27 to 1.27.") in changed.select(
        "domain", "change", "why"
    ).rows()
