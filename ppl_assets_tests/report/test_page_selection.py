"""The report's part on pages: every arm of every target beside the others, every number that of its table."""

import json
from dataclasses import replace

import lxml.html
import polars as pl
import pytest

from ppl_assets.filtering.shift import MEASURES
from ppl_assets.report import render
from ppl_assets.report.page import FORMATS
from ppl_assets.report.page_selection import FILTER_METRICS
from ppl_assets.schema import TABLES
from ppl_assets_tests.report.worlds import drawn_world

TARGETS, ARMS = ("code", "<b>prose</b>"), ("ours", "uniform", "dsir")
KEYS = {name: TABLES[name].keys for name in ("filter_metrics", "selections", "selection_shifts")}


@pytest.fixture(scope="module")
def world():
    """Two targets, the second without a filter; one arm warns."""
    rows = {"selections": [], "selection_shifts": [], "filter_metrics": []}
    for target in TARGETS:
        for number, arm in enumerate(ARMS):
            counts = {"budget": 20_000, "tokens": 20_010 + number, "pages": 31 + number, "domains": 7 - number}
            text = {"status": "selected", "reason": f"<i>{arm}</i>", "pages_digest": "d"}
            rows["selections"].append(
                {"target": target, "arm": arm, "threshold": 0.5, "pool_pages": 99, **counts, **text}
            )
            for place, measure in enumerate(MEASURES):
                verdict = "warn" if (arm, measure) == ("dsir", "length") else "within"
                value = {"value": -0.3 + 0.2 * place, "warn": 1.0, "block": None, "verdict": verdict}
                rows["selection_shifts"].append({"target": target, "arm": arm, "measure": measure, **value})
    for place, metric in enumerate(FILTER_METRICS):
        value = {"value": 0.9 - 0.1 * place, "ci_low": 0.3, "ci_high": 0.95, "pages": 99}
        rows["filter_metrics"].append({"target": "code", "slice": "all", "metric": metric, **value})
    tables = {name: pl.DataFrame(found, schema=TABLES[name].polars_schema) for name, found in rows.items()}
    return replace(drawn_world(targets=TARGETS), **tables)


def test_every_arm_stands_beside_the_others_with_the_numbers_of_its_tables(world):
    page = lxml.html.document_fromstring(render(world))
    section = page.get_element_by_id("pages")
    tables = {
        name: {tuple(row[key] for key in keys): row for row in getattr(world, name).to_dicts()}
        for name, keys in KEYS.items()
    }
    shown = []
    for cell in section.xpath(".//data[@data-from]"):
        table, column, *key = json.loads(cell.get("data-from"))
        value = tables[table][tuple(key)][column]
        assert cell.get("value") == repr(value)
        assert cell.text == FORMATS[cell.get("data-form")](value)
        shown.append((table, *key))
    assert {key for name in ("selections", "selection_shifts") for key in tables[name]} <= {key[1:] for key in shown}
    assert [row.text for row in section.xpath(".//tbody/tr/th")] == [*ARMS, *ARMS]
    assert [badge.text for badge in section.xpath(".//span[@class='badge look']")] == ["warn", "warn"]
    text = " ".join(" ".join(section.itertext()).split())
    assert "There is no page filter: ours is the pool at random." in text
    assert "<i>dsir</i>" in text


def test_a_study_without_pages_has_no_such_part():
    page = lxml.html.document_fromstring(render(drawn_world()))
    assert page.xpath("//section[@id='pages']") == []
    assert page.xpath("//a[@href='#pages']") == []
