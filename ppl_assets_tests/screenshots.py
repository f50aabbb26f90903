"""The pictures of docs/images: a browser opens the web UI and the report of a finished study, as a person would.

``python -m ppl_assets_tests.screenshots --study STUDY --state STATE docs/images``; needs Chromium and Playwright.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppl_assets.settings import Settings
from ppl_assets_tests.web_ui import Server, serving

_SIZE = {"width": 1280, "height": 800}
_MILLISECONDS = 120_000


def take(server: Server, report: Path, folder: Path) -> dict[str, str]:
    """Save pictures of the lineage graph, an asset's partitions and the report; returns the text seen on each."""
    from playwright.sync_api import sync_playwright

    pages: dict[str, tuple[str, Callable[[Any], Any]]] = {
        # Groups of assets, which open on a click.
        "lineage": (f"{server.url}/asset-groups", lambda page: page.get_by_text("publication").last),
        "partitions": (
            f"{server.url}/assets/domain_logliks?view=partitions",
            lambda page: page.get_by_text("Materialized").first,
        ),
        "report": (report.as_uri(), lambda page: page.locator("h1").first),
        "evidence": (f"{report.as_uri()}#evidence-0", lambda page: page.locator("html[data-drawn=yes]")),
    }
    seen = {}
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (url, awaited) in pages.items():
            page = browser.new_page(viewport=_SIZE)
            page.goto(url, timeout=_MILLISECONDS)
            awaited(page).wait_for(timeout=_MILLISECONDS)
            seen[name] = page.locator("body").inner_text()
            _at_its_anchor(page)
            page.screenshot(path=folder / f"{name}.png")
        browser.close()
    return seen


def _at_its_anchor(page: Any) -> None:
    """Back to where the address leads: what was drawn since has moved it."""
    page.evaluate("document.getElementById(location.hash.slice(1))?.scrollIntoView({behavior: 'instant'})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True)
    parser.add_argument("--state", required=True, type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    settings = Settings(state=arguments.state.absolute(), study=arguments.study)
    with serving(settings) as server:
        take(server, settings.report_file, arguments.folder)


if __name__ == "__main__":
    main()
