"""The HTML report: every number equals its table, nothing comes from a network, text stays text."""

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace

import lxml.html
import polars as pl
import pytest
import vl_convert
from scipy.stats import spearmanr

from ppl_assets.errors import InputError
from ppl_assets.report import ReportData, charts, render
from ppl_assets.report.charts import evidence_domains
from ppl_assets.report.data import COLUMNS
from ppl_assets.report.page import FORMATS
from ppl_assets.schema import TABLES
from ppl_assets_tests.report.worlds import PUBLISHED, drawn_world, published_world

NASTY = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "</script>", "a'b\"c & d"]
KEYS = {
    "pretraining_mixture": ("target", "domain"),
    "correlation_estimates": ("target", "estimator", "domain"),
    "signal_gate": ("target",),
    "mixture_gains": ("mixture", "target"),
    "shadow_prices": ("target", "rule"),
    "mixture_changes": ("target", "domain"),
    "domain_audits": ("target", "domain"),
    "next_measurements": ("target", "measurement"),
}


@pytest.fixture(scope="module")
def world() -> ReportData:
    return drawn_world(domains=NASTY + [f"site{i}.org" for i in range(70)], targets=("qa", "code", "<b>prose</b>"))


@pytest.fixture(scope="module")
def together() -> ReportData:
    """Three targets with combined mixtures, compared with mixtures before."""
    return drawn_world(targets=("qa", "code", "<b>prose</b>"), combine=("mean", "max_min", "pareto"))


@pytest.fixture(scope="module")
def html(world) -> str:
    return render(world)


@pytest.fixture(scope="module")
def page(html):
    return lxml.html.document_fromstring(html)


def charts_of(page) -> dict[str, dict]:
    """Specifications of all charts, by the id of their place."""
    return {source.get("data-plot"): json.loads(source.text) for source in page.xpath("//script[@data-plot]")}


def losses_of(page) -> list[dict]:
    """The data set `losses` as the page's script makes it: slug, domain, bpb."""
    held = json.loads(page.get_element_by_id("losses").text)
    return [
        {"slug": slug, "domain": domain, "bpb": bpb}
        for domain, values in held["domains"].items()
        for slug, bpb in zip(held["slugs"], values, strict=True)
    ]


def text_of(element) -> str:
    """Its text, cells and paragraphs kept apart by single spaces."""
    return " ".join(" ".join(element.itertext()).split())


def test_every_number_taken_from_a_table_equals_the_table(world, page):
    cells = page.xpath("//data[@data-from]")
    assert len(cells) > 500
    assert_cells_equal_tables(cells, world)


def test_what_is_said_of_mixtures_as_a_whole_equals_the_tables(together):
    page = lxml.html.document_fromstring(render(together))
    cells = page.xpath("//section[@id='limits']//data[@data-from]")
    assert {json.loads(cell.get("data-from"))[0] for cell in cells} == {
        "pretraining_mixture",
        "mixture_gains",
        "shadow_prices",
        "mixture_changes",
    }
    assert_cells_equal_tables(cells, together)
    text = text_of(page.xpath("//section[@id='limits']")[0])
    assert "The study says to train on mean ." in text
    assert "The safety margin (10 % of the mixture) costs" in text
    assert "Its estimate rose from" in text
    names = [text_of(each) for each in page.xpath("//*[@aria-label='Gains of all mixtures']//tbody/tr/th")]
    assert names[:5] == ["qa", "code", "<b>prose</b>", "mean use", "max_min"]
    assert names[5].startswith("pareto-")


def test_combined_mixtures_are_no_targets_of_their_own(together):
    page = lxml.html.document_fromstring(render(together))
    assert [text_of(each).split()[0] for each in page.xpath("//article/h3")] == ["qa", "code", "<b>prose</b>"]


def test_a_study_that_does_not_say_which_mixture_to_use_is_told_how(page):
    text = text_of(page.xpath("//section[@id='limits']")[0])
    assert "The study does not say which mixture to train on: state mixture.use" in text
    assert text.count("There is no mixture before this one.") == 3


def assert_cells_equal_tables(cells, world):
    """Every cell that names its place shows what the table has there."""
    tables = {
        name: {tuple(row[key] for key in keys): row for row in getattr(world, name).iter_rows(named=True)}
        for name, keys in KEYS.items()
    }
    for cell in cells:
        table, column, *key = json.loads(cell.get("data-from"))
        value = tables[table][tuple(key)][column]
        assert cell.get("value") == ("" if value is None else repr(value))
        assert cell.text == FORMATS[cell.get("data-form")](value)


def test_adjusted_and_stability_charts_hold_the_estimates(world):
    halves = world.correlation_estimates.with_columns(given_size=pl.col("estimate") / 2)
    page = lxml.html.document_fromstring(render(replace(world, correlation_estimates=halves)))
    own = {row["domain"]: row for row in halves.filter(pl.col("target") == "qa").iter_rows(named=True)}
    drawn = charts_of(page)
    for row in drawn["adjusted-chart-0"]["data"]["values"]:
        assert (row["estimate"], row["given_size"]) == tuple(
            own[row["domain"]][name] for name in ("estimate", "given_size")
        )
    stable = drawn["stability-chart-0"]["data"]["values"]
    assert {row["domain"]: row["selection_probability"] for row in stable} == {
        name: row["selection_probability"] for name, row in own.items()
    }


def test_separability_is_the_rank_correlation_of_errors(world, page):
    errors = world.benchmark_errors.pivot("target", index="slug", values="error")
    region = page.xpath("//*[@aria-label='Separability of targets']")[0]
    rows = {
        text_of(row.find("th")): [float(cell.get("value")) for cell in row.iter("data")]
        for row in region.xpath(".//tbody/tr")
    }
    expected = spearmanr(errors["qa"], errors["code"]).statistic
    assert rows["qa"][:2] == pytest.approx([1.0, expected], abs=1e-12)
    assert rows["code"][0] == rows["qa"][1]


def test_audits_of_the_largest_domains_stand_among_the_risks(world):
    audits = pl.DataFrame(
        {
            "target": "qa",
            "domain": world.domain_rows("qa")["domain"],
            "estimate": world.domain_rows("qa")["estimate"].fill_null(0.0),
            "strongest_family": "family 1",
            "estimate_without_it": 0.1,
            "pages": 25,
            "page_agreement": 0.4,
            "overlapping_pages": 5,
            "overlapping_share": 0.2,
            "estimate_without_overlap": -0.5,
            "tasks_not_read": "arc, boolq",
        }
    )
    schema = TABLES["domain_audits"].polars_schema
    whole = pl.DataFrame(
        {name: audits[name] if name in audits.columns else None for name in schema}, schema_overrides=schema
    )
    page = lxml.html.document_fromstring(render(replace(world, domain_audits=whole)))
    cells = page.xpath("//section[@id='risks']//data[@data-from]")
    trained_on = world.pretraining_mixture.filter(pl.col("target") == "qa", pl.col("weight") > 0).height
    assert len(cells) == 8 * min(trained_on, 12)
    assert_cells_equal_tables(cells, replace(world, domain_audits=whole))
    text = text_of(page.get_element_by_id("risks"))
    assert "Sampled text that shares 64 bytes with the target's tasks 20.0 % look" in text
    assert "Mixture in domains most of whose pages disagree with them 100 % look" in text
    assert "Overlap with arc, boolq is unknown" in text


def test_every_derived_number_says_its_exact_value(page):
    for cell in page.xpath("//data[not(@data-from)]"):
        value = None if cell.get("value") == "" else float(cell.get("value"))
        assert cell.text == FORMATS[cell.get("data-form")](value)


def test_sums_over_groups_equal_the_mixture(world, page):
    groups = dict(world.domains.select("domain", "language").iter_rows())
    mixture = world.pretraining_mixture.filter(pl.col("target") == "qa")
    region = page.xpath("//*[@aria-label='Mixture of qa by language']")[0]
    for row in region.xpath(".//tbody/tr"):
        language = row.find("th").text
        mine = [w for name, w in mixture.select("domain", "weight").iter_rows() if groups[name] == language]
        domains, weight, _pool = (float(cell.get("value")) for cell in row.iter("data"))
        assert domains == len(mine)
        assert weight == pytest.approx(math.fsum(mine), abs=1e-12)


def test_predictions_are_compared_with_every_baseline_that_the_table_has(world):
    reversed_rank = world.rank_prediction.with_columns(
        mean_loss_rank=-pl.col("actual_rank"), size_rank=pl.lit(None, pl.Float64), pca_rank=pl.lit(1.0)
    )
    both = replace(world, rank_prediction=reversed_rank)
    ranks = world.rank_prediction.filter(pl.col("target") == "qa")
    predictions = dict(both.predictions("qa"))
    assert predictions["losses on the domains"] == pytest.approx(
        spearmanr(ranks["predicted_rank"], ranks["actual_rank"]).statistic, abs=1e-12
    )
    assert predictions["mean loss"] == pytest.approx(-1, abs=1e-12)
    assert predictions["first principal component of losses"] is None  # a constant predicts no ranks
    assert "model size" not in predictions
    page = lxml.html.document_fromstring(render(both))
    text = text_of(page.xpath("//*[@aria-label='Predictions of qa']")[0])
    assert "mean loss −1.00" in text
    assert "first principal component of losses –" in text


def test_adjusted_estimates_are_shown_where_the_table_has_them(world):
    adjusted = world.correlation_estimates.with_columns(given_size=pl.col("estimate") / 2)
    page = lxml.html.document_fromstring(render(replace(world, correlation_estimates=adjusted)))
    halves = dict(adjusted.filter(pl.col("target") == "qa").select("domain", "given_size").iter_rows())
    shown = [[*json.loads(cell.get("data-from")), cell.get("value")] for cell in page.xpath("//data[@data-from]")]
    values = {domain: value for _, column, *key, domain, value in shown if column == "given_size" and key[0] == "qa"}
    assert len(values) == 50
    assert all(value == repr(halves[domain]) for domain, value in values.items())


def test_pool_shares_are_of_the_domains_that_may_be_used(world):
    rows = world.domain_rows("qa")
    tokens = dict(world.domains.select("domain", "tokens").iter_rows())
    usable = rows.filter(pl.col("decision") != "excluded")
    total = sum(tokens[name] for name in usable["domain"])
    assert rows.height == usable.height + 1
    for name, pool in usable.select("domain", "pool").iter_rows():
        assert pool == pytest.approx(tokens[name] / total, rel=1e-12)
    assert rows.filter(pl.col("decision") == "excluded")["pool"].to_list() == [None]


def test_charts_hold_the_numbers_of_the_tables(world, page):
    drawn_charts = charts_of(page)
    weights = dict(world.pretraining_mixture.filter(pl.col("target") == "qa").select("domain", "weight").iter_rows())
    shown = drawn_charts["mixture-chart-0"]["data"]["values"]
    assert [row["weight"] for row in shown] == sorted(weights.values(), reverse=True)[: len(shown)]
    assert all(row["weight"] == weights[row["domain"]] for row in shown)
    losses = {(row["slug"], row["domain"]): row["bpb"] for row in world.domain_logliks.iter_rows(named=True)}
    for row in [*losses_of(page), *drawn_charts["heat-map"]["data"]["values"]]:
        assert row["bpb"] == losses[row["slug"], row["domain"]]
    errors = dict(world.benchmark_errors.filter(pl.col("target") == "qa").select("slug", "error").iter_rows())
    assert {row["slug"]: row["error"] for row in drawn_charts["evidence-chart-0"]["datasets"]["models"]} == errors
    ranks = world.rank_prediction.filter(pl.col("target") == "qa").select("slug", "predicted_rank", "actual_rank")
    drawn = drawn_charts["rank-chart-0"]["data"]["values"]
    assert [(row["slug"], row["predicted_rank"], row["actual_rank"]) for row in drawn] == ranks.rows()


def test_every_domain_that_can_be_chosen_has_its_losses_in_the_page(page):
    known = {row["domain"] for row in losses_of(page)}
    for name, chart in charts_of(page).items():
        if name.startswith("evidence"):
            assert set(chart["params"][0]["bind"]["options"]) <= known
            assert chart["params"][0]["value"] in chart["params"][0]["bind"]["options"]


def test_every_domain_with_an_estimate_can_be_chosen(world, page):
    options = charts_of(page)["evidence-chart-0"]["params"][0]["bind"]["options"]
    estimated = world.correlation_estimates.filter(pl.col("target") == "qa")["domain"]
    assert sorted(options) == sorted(estimated)


def test_the_list_of_domains_ends_with_the_lowest_estimates(world, monkeypatch):
    monkeypatch.setattr(charts, "EVIDENCE_DOMAINS", 20)
    rows = world.domain_rows("qa")
    listed = evidence_domains(rows)
    assert len(listed) == len(set(listed)) == 20
    assert listed[:17] == rows["domain"].to_list()[:17]
    assert set(listed[17:]) == set(rows.sort("estimate")["domain"].to_list()[:3])
    few = rows.head(8)
    assert evidence_domains(few) == few["domain"].to_list()


def test_every_chart_compiles(page):
    losses = losses_of(page)
    for chart in charts_of(page).values():
        if "datasets" in chart:
            chart["datasets"]["losses"] = losses
        assert vl_convert.vegalite_to_vega(chart, show_warnings=True)["marks"]


def test_what_is_unknown_has_no_layer_in_a_chart(world):
    blank = {name: pl.lit(None, pl.Float64) for name in ("ci_low", "ci_high")}
    page = lxml.html.document_fromstring(
        render(
            replace(
                world,
                domains=world.domains.with_columns(tokens=pl.lit(None, pl.Int64)),
                correlation_estimates=world.correlation_estimates.with_columns(**blank),
            )
        )
    )
    for name, shown in (("mixture-chart-0", {"weight", "cap"}), ("estimate-chart-0", {"estimate"})):
        assert {layer["encoding"]["x"]["field"] for layer in charts_of(page)[name]["layer"]} == shown


def test_names_that_look_like_markup_stay_text(world, page):
    shown = {element.text for element in page.xpath("//tbody//th")}
    assert set(world.domain_rows("code")["domain"].head(50)) <= shown
    assert set(NASTY) <= shown
    assert not page.xpath("//img")
    assert len(page.xpath("//script[not(@type)]")) == 2  # the libraries and what draws the charts
    assert [text_of(h) for h in page.xpath("//article/h3")][2] == "<b>prose</b> weak"
    assert not page.xpath("//article//b")


def test_nothing_is_loaded_from_anywhere(page):
    assert not page.xpath("//@src")
    assert all(link.startswith("#") for link in page.xpath("//@href"))
    policy = page.xpath("//meta[@http-equiv='Content-Security-Policy']")[0].get("content")
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"@import|url\(", page.xpath("//style")[0].text)


def test_the_libraries_are_embedded_once(page):
    assert sum("vegaEmbed" in (script.text or "") and len(script.text) > 100_000 for script in page.iter("script")) == 1


def test_sections_come_in_order_and_links_lead_somewhere(page):
    assert [text_of(h) for h in page.iter("h2")] == [
        "The answer",
        "The mixture against the pool",
        "What the mixtures bring, what limits them, what is new",
        "The evidence",
        "Risks",
        "Provenance",
    ]
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.xpath("//@href")} <= set(ids)
    for reference in page.xpath("//@aria-labelledby"):
        assert reference in ids


def test_the_answer_says_in_words_what_the_gate_decided(page):
    answers = [text_of(article) for article in page.xpath("//article")]
    assert answers[0].startswith("qa select The evidence carries a choice. Train on the mixture below.")
    assert answers[1].startswith("code abstain The evidence carries no choice. Train on the pool as it is.")
    assert "Test the mixture below in a pilot before you train on it." in answers[2]


def test_a_gate_that_was_switched_off_is_told(world):
    chosen = world.pretraining_mixture.with_columns(
        decision=pl.when(pl.col("decision") == "fallback").then(pl.lit("partial")).otherwise(pl.col("decision"))
    )
    page = lxml.html.document_fromstring(render(replace(world, pretraining_mixture=chosen)))
    assert "The study switched the gate off" in text_of(page.xpath("//article")[1])


def test_the_same_tables_give_the_same_page(world, html):
    assert render(world) == html


def test_provenance_is_shown_whole(page):
    text = text_of(page.get_element_by_id("provenance"))
    assert "qa sha256:<abc>" in text
    assert "ppl_assets 0" in text
    assert "study a world" in text


def test_unknown_numbers_are_shown_as_unknown(world):
    blank = world.correlation_estimates.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in ("ci_low", "ci_high", "q_value", "selection_probability")
    )
    sizes = world.domains.with_columns(tokens=pl.lit(None, pl.Int64), language=pl.lit(None, pl.String))
    no_ranks = world.rank_prediction.with_columns(predicted_rank=pl.lit(float("nan")))
    gate = world.signal_gate.with_columns(reliability=pl.lit(float("nan")))
    html = render(
        replace(world, correlation_estimates=blank, domains=sizes, rank_prediction=no_ranks, signal_gate=gate)
    )
    page = lxml.html.document_fromstring(html)
    assert "How large the domains are is not known" in text_of(page.get_element_by_id("mixture"))
    assert not [name for name in charts_of(page) if name.startswith("rank")]
    assert page.xpath("//data[@data-form='correlation'][@value='']")[0].text == "–"
    assert "NaN" not in "".join(script.text for script in page.xpath("//script[@type]"))


def test_a_target_without_estimates_or_verdict_is_shown(world):
    empty = replace(
        world,
        correlation_estimates=world.correlation_estimates.clear(),
        signal_gate=world.signal_gate.clear(),
        rank_prediction=world.rank_prediction.clear(),
        pretraining_mixture=world.pretraining_mixture.with_columns(estimate=pl.lit(None, pl.Float64)),
        provenance={},
    )
    page = lxml.html.document_fromstring(render(empty))
    assert text_of(page.xpath("//article/h3")[0]) == "qa no verdict"
    assert not [name for name in charts_of(page) if name.startswith("evidence")]


@pytest.mark.parametrize("table", COLUMNS)
def test_a_table_without_a_public_column_is_refused(world, table):
    frame = getattr(world, table)
    column = COLUMNS[table][-1]
    with pytest.raises(InputError, match=f"table {table} has no column '{column}'"):
        replace(world, **{table: frame.drop(column)})


def test_the_estimator_is_the_one_whose_numbers_stand_in_the_mixture(world):
    other = world.correlation_estimates.with_columns(estimator=pl.lit("product"), estimate=pl.col("estimate") * 2)
    both = replace(world, correlation_estimates=pl.concat([other, world.correlation_estimates]))
    assert both.estimator("qa") == "spearmanr"
    assert both.domain_rows("qa").height == world.domain_rows("qa").height


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published losses are not at hand")
def test_the_published_losses_make_a_page_below_ten_megabytes():
    html = render(published_world())
    assert len(html.encode()) < 10_000_000
    assert len(charts_of(lxml.html.document_fromstring(html))) > 40


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium is installed")
@pytest.mark.parametrize("width", [360, 1440])
def test_a_browser_without_network_draws_every_chart_without_complaint(tmp_path, width):
    html = render(drawn_world(domains=NASTY + [f"site{i}.org" for i in range(12)]))  # few enough for every list
    page = lxml.html.document_fromstring(html)
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    flags = "--headless=new --no-sandbox --disable-gpu --disable-background-networking --virtual-time-budget=30000"
    done = subprocess.run(
        [
            "chromium",
            *flags.split(),
            "--host-resolver-rules=MAP * 0.0.0.0",
            f"--window-size={width},2000",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--dump-dom",
            (tmp_path / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    drawn = lxml.html.document_fromstring(done.stdout)
    assert drawn.get("data-drawn") == "yes"
    assert len(drawn.xpath("//*[contains(@class, 'plot')]//*[local-name()='svg']")) == len(charts_of(page))
    assert set(NASTY) <= {option.text for option in drawn.xpath("//select/option")}
    assert not drawn.xpath("//img")
