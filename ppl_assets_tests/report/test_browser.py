"""The page as a browser without a network opens it: no console message, no sideways scrolling, usable by everybody."""

from dataclasses import replace
from pathlib import Path

import axe_playwright_python
import polars as pl
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ppl_assets.report import ReportData, render
from ppl_assets_tests.report.pilot_world import with_pilot
from ppl_assets_tests.report.worlds import PUBLISHED, drawn_world, published_world

CHROMIUM = Path("/usr/bin/chromium")
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
WIDTHS = (360, 1440)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not on this machine"),
]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def worlds() -> dict[str, ReportData]:
    known = {"drawn": with_pilot(drawn_world(targets=("qa", "code", "prose"), combine=("mean", "max_min")))}
    small = drawn_world(targets=("qa",))
    known["unsized"] = replace(small, domains=small.domains.with_columns(tokens=pl.lit(None, pl.Int64)))
    return known | ({"published": published_world()} if PUBLISHED.exists() else {})


@pytest.fixture(scope="module", params=["drawn", "unsized", "published"])
def page_file(request, tmp_path_factory) -> Path:
    world = worlds().get(request.param)
    if world is None:
        pytest.skip("the published losses are not at hand")
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(world), encoding="utf-8")
    assert path.stat().st_size < 10_000_000
    return path


def opened(browser: Browser, path: Path, *, width: int, scheme: str = "light") -> tuple[Page, list[str]]:
    """The page with all its charts drawn, and what the console said meanwhile.

    Without a network; the page's own policy is set aside for the checker's script alone, and counts where it is not.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, reduced_motion="reduce"
    )
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn=yes]", state="attached", timeout=300_000)
    return page, said


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_offline_without_a_word_on_the_console_and_fits_the_screen(browser, page_file, width, scheme):
    page, said = opened(browser, page_file, width=width, scheme=scheme)
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert page.locator(".plot svg").count() == page.locator("script[data-plot]").count()
    page.context.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, page_file, width, scheme):
    page, _ = opened(browser, page_file, width=width, scheme=scheme)
    # As strings of the debugging protocol, which no policy of the page holds back.
    page.evaluate(AXE)
    page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations'], elementRef: false})")
    serious = [
        (violation["id"], violation["nodes"][0]["html"])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == []
    page.context.close()


def test_choosing_a_domain_with_the_keyboard_draws_its_models(browser, page_file):
    page, said = opened(browser, page_file, width=1440)
    chooser = page.locator("#evidence select").first
    before = page.locator("#evidence-chart-0 svg").inner_html()
    chooser.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("before => document.querySelector('#evidence-chart-0 svg').innerHTML !== before", arg=before)
    assert said == []
    page.context.close()


def test_the_first_tab_leads_past_the_contents(browser, page_file):
    page, _ = opened(browser, page_file, width=1440)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    page.context.close()


def test_it_prints_with_everything_unfolded(browser, page_file, tmp_path):
    page, _ = opened(browser, page_file, width=1440)
    page.pdf(path=tmp_path / "report.pdf")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert (tmp_path / "report.pdf").stat().st_size > 10_000
    page.context.close()
