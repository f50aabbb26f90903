"""The report's section on a pilot: every arm, every number that of its table, nothing without a pilot."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import lxml.html
import polars as pl
import pytest
import vl_convert

from ppl_assets.report import ReportData, png_plots, render
from ppl_assets.report.page import FORMATS
from ppl_assets.schema import TABLES
from ppl_assets_tests.pilot.studies import TASKS
from ppl_assets_tests.report.pilot_world import with_pilot
from ppl_assets_tests.report.worlds import drawn_world


@pytest.fixture(scope="module")
def world() -> ReportData:
    return with_pilot(drawn_world(targets=("code", "prose")))


@pytest.fixture(scope="module")
def section(world):
    (found,) = lxml.html.document_fromstring(render(world)).xpath("//section[@id='pilot']")
    return found


def text_of(element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def test_every_arm_stands_in_the_table_of_every_target_also_one_that_was_not_run(section):
    for target in TASKS:
        (region,) = section.xpath(f".//*[@aria-label='Pilot of {target}, size tiny']")
        rows = {row.find("th").text: text_of(row) for row in region.xpath(".//tbody/tr")}
        assert set(rows) == {"ours", "dsir", "rules"}
        assert "no runs" in rows["rules"]


def test_every_number_equals_its_table(section, world):
    cells = section.xpath(".//data[@data-from]")
    assert len(cells) > 20
    for cell in cells:
        table, column, *key = json.loads(cell.get("data-from"))
        (row,) = getattr(world, table).filter(**dict(zip(TABLES[table].keys, key, strict=True))).to_dicts()
        assert cell.get("value") == ("" if row[column] is None else repr(row[column]))
        assert cell.text == FORMATS[cell.get("data-form")](row[column])


def test_the_answer_says_what_the_pilot_measured_of_its_target(world):
    page = lxml.html.document_fromstring(render(world))
    for target in TASKS:
        (card,) = page.xpath(f"//article[h3[starts-with(normalize-space(), '{target}')]]")
        assert "Measured in the pilot" in text_of(card)
        row = world.pilot_comparison.filter("decides", target=target).row(0, named=True)
        shown = {json.loads(cell.get("data-from"))[1]: cell.get("value") for cell in card.xpath(".//data[@data-from]")}
        assert {name: shown[name] for name in ("gain", "ci_low", "ci_high")} == {
            name: repr(row[name]) for name in ("gain", "ci_low", "ci_high")
        }
    unknown = world.pilot_comparison.with_columns(gain=pl.lit(None, pl.Float64))
    assert "Measured in the pilot" not in render(replace(world, pilot_comparison=unknown))


def test_the_plan_and_harm_outside_the_target_are_told(section, world):
    text = text_of(section)
    assert "frozen on 2026-01-31T12:00:00+00:00 as pilot 1" in text
    assert world.preregistration["decision_rule"][0] in text
    assert "1 of 3 : <b>b</b> −20.0 %" in text


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ("tiny: {}", "trained from scratch on what"),
        ("tiny: {start: our/<model>}", "trained further from the model our/<model> on what"),
        (
            "tiny: {}, other: {}, added: {start: m}",
            "trained further from the model m (size added), from scratch (size other and tiny) on what",
        ),
    ],
)
def test_the_section_says_what_the_models_begin_as(sizes, says):
    planned = with_pilot(drawn_world(targets=("code", "prose")), f"pilot: {{sizes: {{{sizes}}}}}\n")
    (section,) = lxml.html.document_fromstring(render(planned)).xpath("//section[@id='pilot']")
    assert f"Small models, {says} each way of choosing gives" in text_of(section)


def test_a_changed_plan_says_so(world):
    plans = world.preregistration.with_columns(
        changes=pl.lit("seeds: [0,1] -> [0,1,2]"), supersedes=pl.lit(1), known_arms=pl.lit("ours")
    )
    page = render(replace(world, preregistration=plans))
    assert "It replaces an earlier one" in page
    assert "results were known of ours" in text_of(lxml.html.document_fromstring(page))


def test_without_a_pilot_there_is_no_section():
    assert "pilot-title" not in render(drawn_world(targets=("code", "prose")))


def test_each_target_has_a_chart_of_the_arms_that_were_run(section, world):
    drawn = {source.get("data-plot"): json.loads(source.text) for source in section.xpath(".//script[@data-plot]")}
    assert set(drawn) == {"pilot-chart-1", "pilot-chart-2"}
    for chart, target in zip(drawn.values(), sorted(TASKS), strict=True):
        measure = world.pilot_comparison.filter(target=target, decides=True)["measure"][0]
        rows = world.pilot_comparison.filter(target=target, role="uniform", measure=measure)
        shown = {row["arm"]: (row["gain"], row["ci_low"], row["ci_high"]) for row in chart["data"]["values"]}
        told = {arm: numbers for arm, *numbers in rows.select("arm", "gain", "ci_low", "ci_high").iter_rows()}
        assert shown == {arm: tuple(told[arm]) for arm in ("ours", "dsir")}
        assert written(chart) >= {"ours", "dsir", "gain over uniform, per cent"}
        assert "undefined" not in written(chart)


def written(chart) -> set[str | None]:
    """What a chart's picture says."""
    svg = ElementTree.fromstring(vl_convert.vegalite_to_svg(chart | {"width": 400}))
    return {element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")}


def test_the_pictures_for_metadata_have_the_pilot_too(world):
    pictures = png_plots(world)
    assert {f"pilot: {target}, size tiny" for target in TASKS} <= set(pictures)


def test_a_pilot_of_which_nothing_was_run_has_no_chart(world):
    unknown = [pl.lit(None, pl.Float64).alias(name) for name in ("gain", "ci_low", "ci_high")]
    planned = replace(world, pilot_comparison=world.pilot_comparison.with_columns(unknown))
    assert "pilot-chart-" not in render(planned)
    assert not [name for name in png_plots(planned) if name.startswith("pilot")]
