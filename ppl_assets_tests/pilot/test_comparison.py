"""The pilot's tables against numbers computed by hand, pair by pair."""

import numpy as np
import polars as pl
import pytest
import scipy.stats
from rich.console import Console

from ppl_assets.errors import InputError
from ppl_assets.pilot.comparison import Cost, comparison_tables, decisions
from ppl_assets.pilot.terminal import summary_tables
from ppl_assets.schema import TABLES
from ppl_assets_tests.pilot.studies import TASKS, domains_table, random_values, runs_table, study

ARMS = ("ours", "uniform", "dsir", "rules")
NO_DOMAINS = domains_table({(arm, target, "a"): np.ones(3) for arm in ARMS for target in TASKS})


def tables(values, *, pilot="pilot: {sizes: {tiny: {}}}\n", domains=NO_DOMAINS, costs=None):
    return comparison_tables(study(pilot), runs_table(values), domains, pilot="p", costs=costs or {})


def row(table: pl.DataFrame, **key: str) -> dict:
    found = table.filter(**key)
    assert found.height == 1, found
    return found.row(0, named=True)


def errors(values, arm: str, target: str) -> np.ndarray:
    """Seeds x tasks."""
    columns = [(values[arm, target, name], kind) for name, kind in TASKS[target]]
    return np.stack([1 - value if kind == "accuracy" else value for value, kind in columns], axis=1)


def test_every_row_is_the_paired_gain_of_its_arm_and_measure():
    values = random_values(ARMS)
    found = tables(values)["pilot_comparison"]
    for arm in ("ours", "dsir", "rules"):
        uniform, own = errors(values, "uniform", "code"), errors(values, arm, "code")
        gain_ST = np.array(
            [[100 * (uniform[s, t] - own[s, t]) / uniform[:, t].mean() for t in range(2)] for s in range(3)]
        )
        for measure, of in (
            ("error", [0, 1]),
            ("bpb", [1]),
            ("code_choice/acc", [0]),
            ("code_cost/bits_per_byte", [1]),
        ):
            gain_S = gain_ST[:, of].mean(axis=1)
            low, high = scipy.stats.ttest_1samp(gain_S, 0).confidence_interval(0.9)
            each = row(found, arm=arm, target="code", role="uniform", measure=measure)
            assert (each["gain"], each["ci_low"], each["ci_high"]) == pytest.approx((gain_S.mean(), low, high))
            assert each["p_value"] == pytest.approx(scipy.stats.ttest_rel(gain_S, np.zeros(3)).pvalue)
            assert each["verdict"] == ("better" if low > 0 else "worse" if high < 0 else "no difference shown")
            assert (each["tasks_ci_low"] is None) == (len(of) == 1)
        each = row(found, arm=arm, target="code", role="uniform", measure="code_choice/acc")
        assert each["value"] == pytest.approx(values[arm, "code", "code_choice/acc"].mean())
        assert each["versus_value"] == pytest.approx(values["uniform", "code", "code_choice/acc"].mean())


def test_the_best_baseline_is_the_rival_with_the_lowest_error_of_each_target_and_never_ours_nor_a_control():
    values = random_values((*ARMS, "positive", "negative"))
    for arm, error in (("ours", 0.1), ("positive", 0.05), ("dsir", 0.3), ("rules", 0.25), ("uniform", 0.4)):
        values[arm, "prose", "prose_cost/bits_per_byte"] = np.full(3, error)
    domains = domains_table({(arm, target, "a"): np.ones(3) for arm, target, _ in values})
    pilot = "pilot: {sizes: {tiny: {}}, controls: [positive, negative]}\n"
    found = tables(values, pilot=pilot, domains=domains)["pilot_comparison"].filter(
        role="best_baseline", target="prose"
    )
    assert set(found["versus"]) == {"rules"}
    assert set(found["arm"]) == {"ours", "uniform", "dsir", "positive", "negative"}


def test_all_arms_stand_in_the_table_those_that_were_not_run_as_such():
    values = {key: value for key, value in random_values(ARMS).items() if key[0] not in ("ours", "dsir")}
    found = tables(values)["pilot_comparison"]
    assert set(found["arm"]) == set(ARMS)
    ours = row(found, arm="ours", target="code")
    assert (ours["verdict"], ours["gain"], ours["seeds"], ours["decides"]) == ("no runs", None, 0, True)
    assert decisions(found)[0] == "code, size tiny: ours is not judged: it has no runs"


def test_without_uniform_there_is_nothing_to_compare_with():
    values = {key: value for key, value in random_values(ARMS).items() if key[0] != "uniform"}
    with pytest.raises(InputError, match="no runs of 'uniform'"):
        tables(values)


def test_a_seed_that_is_missing_is_named():
    values = random_values(ARMS)
    values["dsir", "code", "code_choice/acc"] = values["dsir", "code", "code_choice/acc"][:2]
    with pytest.raises(InputError, match="arm 'dsir', target 'code': found no code_choice/acc of seed 2"):
        tables(values)


@pytest.mark.parametrize(("minimum", "verdict"), [(0, "better"), (40, "better"), (60, "no difference shown")])
def test_the_rule_asks_for_the_least_gain_that_was_registered(minimum, verdict):
    values = random_values(ARMS)
    values["uniform", "prose", "prose_cost/bits_per_byte"] = np.array([1.0, 1.1, 0.9])
    values["ours", "prose", "prose_cost/bits_per_byte"] = np.array([0.5, 0.6, 0.4])
    found = tables(values, pilot=f"pilot: {{sizes: {{tiny: {{}}}}, minimum_gain: {minimum}}}\n")["pilot_comparison"]
    decided = found.filter("decides", target="prose")
    assert decided["verdict"].to_list() == [verdict]
    assert decided["gain"].item() == pytest.approx(50)
    assert len(decisions(found)) == 2


def test_one_seed_has_no_interval_and_no_verdict():
    values = random_values(ARMS, seeds=1)
    pilot = "pilot: {sizes: {tiny: {}}, seeds: [0]}\n"
    domains = NO_DOMAINS.filter(pl.col("seed") == 0)
    found = tables(values, pilot=pilot, domains=domains)
    assert set(found["pilot_comparison"]["verdict"]) == {"one seed"}
    assert found["pilot_harm"]["ci_low"].null_count() == found["pilot_harm"].height


def test_a_point_costs_what_a_run_costs_over_the_points_that_it_gains():
    values = random_values(ARMS)
    found = tables(values, costs={"ours": Cost(seconds=60.0, money=3.0), "dsir": Cost(seconds=10.0)})[
        "pilot_comparison"
    ]
    for each in found.to_dicts():
        if each["gain"] <= 0:
            assert each["flops_per_point"] is each["seconds_per_point"] is each["cost_per_point"] is None
            continue
        assert each["flops_per_point"] == pytest.approx(1e9 / each["gain"])
        assert (each["cost_per_point"] is not None) == (each["arm"] == "ours")
        if each["arm"] == "ours":
            assert each["seconds_per_point"] == pytest.approx(60 / each["gain"])
            assert each["cost_per_point"] == pytest.approx(3 / each["gain"])


def test_ranks_are_averaged_over_targets_and_leave_controls_out():
    values = random_values((*ARMS, "negative"))
    pilot = "pilot: {sizes: {tiny: {}}, controls: [negative]}\n"
    domains = domains_table({(arm, target, "a"): np.ones(3) for arm, target, _ in values})
    ranks = tables(values, pilot=pilot, domains=domains)["pilot_ranks"]
    assert set(ranks["arm"]) == set(ARMS)
    by_target = []
    for target in TASKS:
        scale = errors(values, "uniform", target).mean(axis=0)
        standing = [float((errors(values, arm, target).mean(axis=0) / scale).mean()) for arm in ARMS]
        by_target.append(scipy.stats.rankdata(standing))
    expected = dict(zip(ARMS, np.mean(by_target, axis=0), strict=True))
    assert dict(ranks.select("arm", "average_rank").iter_rows()) == pytest.approx(expected)


def test_the_trend_over_sizes_is_the_seeds_mean_slope_over_tenfold_compute():
    pilot = "pilot: {sizes: {small: {}, large: {}}}\n"
    small, large = random_values(ARMS, generator=1), random_values(ARMS, generator=2)
    runs = pl.concat([runs_table(small, size="small", flops=1e9), runs_table(large, size="large", flops=1e11)])
    domains = pl.concat([NO_DOMAINS.with_columns(size=pl.lit(size)) for size in ("small", "large")])
    found = comparison_tables(study(pilot), runs, domains, pilot="p", costs={})["pilot_trend"]
    assert found.height == 2 * 3
    gains = []
    for values in (small, large):
        uniform, ours = (values[arm, "prose", "prose_cost/bits_per_byte"] for arm in ("uniform", "ours"))
        gains.append(100 * (uniform - ours) / uniform.mean())
    slopes = (gains[1] - gains[0]) / 2
    each = row(found, arm="ours", target="prose")
    low, high = scipy.stats.ttest_1samp(slopes, 0).confidence_interval(0.9)
    assert (each["slope"], each["ci_low"], each["ci_high"]) == pytest.approx((slopes.mean(), low, high))
    assert tables(random_values(ARMS))["pilot_trend"].height == 0


def test_harm_shows_every_domain_against_uniform():
    rng = np.random.default_rng(4)
    values = {(arm, target, name): rng.uniform(1, 2, 3) for arm in ARMS for target in TASKS for name in ("a", "b", "c")}
    harm = tables(random_values(ARMS), domains=domains_table(values))["pilot_harm"]
    assert harm.height == 3 * 2 * 3
    for (arm, target), rows in harm.group_by("arm", "target"):
        p_values = []
        for each in rows.sort("domain").to_dicts():
            uniform_S, own_S = values["uniform", target, each["domain"]], values[arm, target, each["domain"]]
            gain_S = 100 * (uniform_S - own_S) / uniform_S.mean()
            assert each["gain"] == pytest.approx(gain_S.mean())
            assert each["bpb"] == pytest.approx(own_S.mean())
            p_values.append(scipy.stats.ttest_1samp(gain_S, 0).pvalue)
        expected = scipy.stats.false_discovery_control(p_values)
        assert rows.sort("domain")["q_value"].to_list() == pytest.approx(expected.tolist())


def test_a_terminal_shows_every_arm_against_uniform_on_what_decides(capsys):
    values = {key: value for key, value in random_values(ARMS).items() if key[0] != "rules"}
    console = Console(width=120)
    for table in summary_tables(tables(values)["pilot_comparison"]):
        console.print(table)
    shown = capsys.readouterr().out
    assert shown.count("gain over uniform in error, 3 seeds") == 2
    for arm in ("ours", "dsir", "rules"):
        assert shown.count(arm) >= 2
    assert "no runs" in shown


def test_the_tables_are_as_declared():
    for name, rows in tables(random_values(ARMS)).items():
        assert rows.schema == TABLES[name].polars_schema
        assert not rows.select(TABLES[name].keys).is_duplicated().any()
