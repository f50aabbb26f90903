"""The section of costs: sums of the ledger, and comparisons by arithmetic that stands here once more."""

from dataclasses import replace

import lxml.html
import polars as pl
import pytest

from ppl_assets.report import render
from ppl_assets.report.costs import costs
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Alternatives, Prices
from ppl_assets_tests.report.test_page import text_of
from ppl_assets_tests.report.worlds import drawn_world


@pytest.fixture(scope="module")
def world():
    """Two models scored and evaluated, one of them also trained; rate 1 GFLOP/s."""
    ledger = pl.DataFrame(
        [
            ("model_zoo", "run", 10.0, 8.0, 300, 8e9, 500),
            ("chunk_logliks", "model-0", 4.0, 3.0, 100, 3e9, 700),
            ("chunk_logliks", "model-1", 4.0, 3.0, 100, 3e9, 900),
            ("benchmark_scores", "model-0", 2.0, 1.0, 20, 1e9, 100),
            ("benchmark_scores", "model-1", 2.0, 1.0, 20, 1e9, 100),
            ("signal_gate", "", 1.0, None, None, None, None),
        ],
        schema=["asset", "partition", "seconds", "device_seconds", "tokens", "flops", "peak_bytes"],
        orient="row",
    ).with_columns(run=pl.lit("r"), device=pl.lit("cpu"), cost=pl.lit(None, pl.Float64))
    measurements = pl.DataFrame(
        [("qa", "ask more", "questions", 0.25, 3.6e12, 1), ("qa", "score x", "model", 0.01, 7.2e12, 2)],
        schema=TABLES["next_measurements"].polars_schema,
        orient="row",
    )
    return replace(
        drawn_world(),
        cost_ledger=ledger.select(TABLES["cost_ledger"].polars_schema.names()),
        next_measurements=measurements,
        prices=Prices(cpu_hour=2.0, currency="EUR"),
        alternatives=Alternatives(proxy_models=4, proxy_params=1000, proxy_tokens=5000, pilot_runs=3),
    )


def test_this_choice_is_compared_with_choices_by_training(world):
    choice, proxies, pilots = costs(world).ways
    assert choice.flops == 16e9
    assert (proxies.flops, proxies.times) == (6 * 4 * 1000 * 5000, 6 * 4 * 1000 * 5000 / 16e9)
    assert pilots.flops == 6 * 2 * 3 * 160e6 * 3.2e9  # two targets
    assert choice.hours == pytest.approx(16 / 3600, rel=1e-12)
    assert choice.cost == pytest.approx(2 * 16 / 3600, rel=1e-12)


def test_a_pilot_is_no_part_of_the_choice_that_it_tests(world):
    row = world.cost_ledger.filter(asset="model_zoo").with_columns(asset=pl.lit("pilot_runs"), flops=pl.lit(5e9))
    tested = costs(replace(world, cost_ledger=pl.concat([world.cost_ledger, row])))
    assert tested.ways[0].flops == 16e9
    assert (tested.ways[-1].name, tested.ways[-1].flops) == ("the pilot runs that tested this choice", 5e9)


def piloted(world, seconds: float, *, device: str = "cpu"):
    """The world with a pilot of 9 TFLOP that took so long."""
    row = world.cost_ledger.filter(asset="model_zoo").with_columns(
        pl.lit("pilot_runs").alias("asset"), pl.lit(9e12).alias("flops"), pl.lit(device).alias("device")
    )
    row = row.with_columns(pl.lit(seconds).alias("seconds"), pl.lit(seconds).alias("device_seconds"))
    return replace(world, cost_ledger=pl.concat([world.cost_ledger, row]))


@pytest.mark.parametrize("seconds", [3.6, 36000.0])
def test_the_choice_and_its_pilot_each_take_the_hours_that_they_took(world, seconds):
    """The pilot ran at another rate than the choice, and neither of the two tells the other's hours."""
    alone, tested = costs(world), costs(piloted(world, seconds))
    assert tested.ways[:-1] == alone.ways
    assert tested.steps == alone.steps
    assert tested.measurements == alone.measurements
    assert tested.ways[-1].hours == pytest.approx(seconds / 3600, rel=1e-12)
    assert tested.ways[-1].cost == pytest.approx(2 * seconds / 3600, rel=1e-12)


def test_each_device_has_its_own_price(world):
    priced = replace(world, prices=Prices(cpu_hour=2.0, gpu_hour=30.0))
    tested = costs(piloted(priced, 3600.0, device="cuda"))
    assert tested.ways[:-1] == costs(priced).ways
    assert tested.ways[-1].cost == pytest.approx(30, rel=1e-12)


def test_a_pilot_alone_tells_no_rate_for_what_was_not_run(world):
    only = replace(world, cost_ledger=piloted(world, 3.6).cost_ledger.filter(asset="pilot_runs"))
    choice, proxies, pilots, tested = costs(only).ways
    assert (choice.flops, choice.hours, proxies.hours, pilots.hours) == (None, None, None, None)
    assert tested.hours == pytest.approx(0.001, rel=1e-12)


def test_a_further_model_costs_what_the_others_did_and_a_domain_its_share(world):
    model, domain = costs(world).steps
    assert model.flops == (3e9 + 1e9 + 3e9 + 1e9) / 2
    assert domain.flops == pytest.approx(6e9 / 30, rel=1e-12)


def test_sums_by_asset_are_unknown_where_nothing_is_known(world):
    rows = {row["asset"]: row for row in costs(world).by_asset}
    scoring = rows["chunk_logliks"]
    assert (scoring["partitions"], scoring["seconds"], scoring["device_seconds"]) == (2, 8.0, 6.0)
    assert scoring["peak_bytes"] == 900
    assert rows["signal_gate"]["device_seconds"] is None
    assert next(iter(rows)) == "model_zoo"


def test_the_page_shows_costs_and_what_to_measure_next(world):
    page = lxml.html.document_fromstring(render(world))
    text = text_of(page.get_element_by_id("costs"))
    assert "qa: what to measure next" in text
    assert "ask more 25.0 % 3.6e12 1.00" in text
    assert "EUR" in text
    assert "1.6e10 FLOPs for all targets together" in text_of(page.xpath("//article")[0])


def test_a_study_where_nothing_ran_has_no_such_section():
    page = lxml.html.document_fromstring(render(drawn_world()))
    assert not page.xpath("//*[@id='costs']")
    assert "Costs" not in text_of(page.xpath("//nav")[0])
