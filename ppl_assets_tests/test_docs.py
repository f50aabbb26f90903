"""README and docs: blocks are run, links lead somewhere, generated pages are what the code says, the site builds."""

import ast
import contextlib
import importlib
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
import typer
import yaml
from markdown.extensions.toc import slugify

from ppl_assets import cli
from ppl_assets.reference import pages
from ppl_assets.settings import Settings
from ppl_assets.study import embedded_text
from ppl_assets.warehouse import Lake
from ppl_assets_tests.export.test_formats import mixture_table
from ppl_assets_tests.filtering.selections import make_world, write_source, write_study
from ppl_assets_tests.orchestration.test_runner import run
from ppl_assets_tests.reader import ROOT, bare, blocks, follow, prose
from ppl_assets_tests.registry.hub import address_of, serve_hub, tiny_model
from ppl_assets_tests.studies import imported_tables, write_import_study
from ppl_assets_tests.web_ui import free_port, select_nothing_for_a_moment

DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS]
# Commands and pages that `test_a_reader_can_do_all_that_a_page_says` leaves out, and the test that runs them.
ELSEWHERE = {
    "make demo": "test_acceptance.py::test_the_demo_ends_well_and_says_where_its_results_are",
    "make ui": "test_ui.py::test_both_code_locations_load_without_errors",
    ".venv/bin/ppl-assets run --study mine/study.yaml --state mine/.ppl": (
        "test_acceptance.py::test_the_study_that_init_writes_is_the_demo_and_finds_its_results_current"
    ),
    # Shown as text, since it does not end; the test starts it with the settings of the page.
    "dagster-celery worker start -A dagster_celery.app -y celery.yaml -q gpu -n gpu1 -- --concurrency 1": (
        "orchestration/test_engines.py::test_every_engine_materializes_the_same_partitions_to_identical_tables"
    ),
    "ppl-assets run --select pilot_comparison --study mine/study.yaml --state mine/.ppl": (
        "pilot/test_graph.py::test_a_pilot_runs_where_it_is_asked_for_and_never_by_itself"
    ),
    # The continuous integration is what runs it: this test is in it.
    "make test": "test_docs.py::test_the_continuous_integration_runs_the_tests",
}
# They go on from the demo's state.
PAGES_ELSEWHERE = {
    "tutorial.md": "test_acceptance.py::test_the_tutorial_leads_from_the_demo_to_a_study_of_ones_own",
    "add_models.md": "test_acceptance.py::test_the_guide_on_models_goes_on_where_the_tutorial_ends",
}


def _as_after_the_demo(folder: Path) -> None:
    """Losses and scores to import; in the default state folder a mixture for the demo's targets, as it leaves one."""
    lake = Lake(Settings.from_environment(state=folder / ".ppl").lake)
    lake.write("pretraining_mixture", mixture_table(), fingerprint="the demo's")
    write_import_study(folder)
    (folder / "bpb.csv").rename(folder / "losses.csv")


def _with_a_study(folder: Path) -> None:
    """The same, and the study that `init` writes."""
    _as_after_the_demo(folder)
    (folder / "mine").mkdir()
    (folder / "mine" / "study.yaml").write_text(embedded_text("demo"))


def _with_a_model(folder: Path) -> None:
    """The same, and a model."""
    _with_a_study(folder)
    tiny_model(folder / "models" / "ours-1b")


def _with_example_com(folder: Path) -> None:
    """A finished study of imported losses, two of whose domains belong to example.com."""
    (folder / "mine").mkdir()
    write_import_study(folder / "mine")
    losses = folder / "mine" / "bpb.csv"
    losses.write_text(losses.read_text().replace("poetry-0", "www.example.com").replace("poetry-1", "blog.example.com"))
    settings = Settings(state=folder / "mine" / ".ppl", study=str(folder / "mine" / "study.yaml"))
    assert [outcome.error for outcome in run(settings) if outcome.error] == []


def _with_two_sites(folder: Path) -> None:
    """Two studies, of losses on domains that they do not share, and the scores of their models."""
    losses, scores = imported_tables()
    for site, kind in (("north", "maths"), ("south", "poetry")):
        (folder / site).mkdir()
        write_import_study(folder / site)
        losses.filter(pl.col("domain").str.starts_with(kind)).write_csv(folder / site / "bpb.csv")
    scores.write_csv(folder / "scores.csv")


def _with_texts(folder: Path) -> None:
    (folder / "texts.txt").write_text("The first text.\nAnother one, a little longer.\nÜber allen Gipfeln ist Ruh.\n")


def _with_a_filter(folder: Path) -> None:
    """A page filter as the demo leaves one, and a pool of pages in Parquet."""
    write_source(folder)
    world = make_world(folder, write_study(folder, arms=("ours",)))
    (folder / "filters" / "good").rename(folder / "filters" / "code")
    (folder / ".ppl").mkdir()
    (folder / "filters").rename(folder / ".ppl" / "filters")
    (folder / "pool").mkdir()
    pages = world.lake.read("pages", "training").select("text", id="page_id")
    pages.write_parquet(folder / "pool" / "pages.parquet")


# What a reader has before a page, where it is not a study of one's own.
BEFORE: dict[str, Callable[[Path], None]] = {
    "README.md": _as_after_the_demo,
    "filtering.md": _with_a_filter,
    "retirement.md": _with_example_com,
    "report.md": _with_example_com,
    "likelihood.md": _with_texts,
    "own_benchmark.md": _with_a_model,
    "several_sites.md": _with_two_sites,
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The address of a hub on this machine that has a tiny model under the name that the docs use."""
    folder = tiny_model(tmp_path_factory.mktemp("model"))
    with serve_hub("EleutherAI/pythia-160m", folder, revision="step143000") as server:
        yield address_of(server)


RUN_HERE = [
    page
    for page in PAGES
    if page.name not in PAGES_ELSEWHERE and {"sh", "python"} & {block.language for block in blocks(page)}
]


@pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: page.name)
def test_a_reader_can_do_all_that_a_page_says(page, tmp_path, hub):
    BEFORE.get(page.name, _with_a_study)(tmp_path)
    online = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub")}
    result = follow(page, tmp_path, skipped=set(ELSEWHERE), **online)
    assert result.returncode == 0, result.stderr[-3000:]


def test_what_is_run_elsewhere_is_in_the_docs():
    said = {bare(line) for page in PAGES for block in blocks(page) for line in block.text.splitlines()}
    assert set(ELSEWHERE) <= said
    assert set(PAGES_ELSEWHERE) <= {page.name for page in PAGES}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in pages()], ids=lambda page: page.name)
def test_no_command_is_shown_as_text_to_escape_the_tests(page):
    lines = [line for block in blocks(page) if block.language == "text" for line in block.text.splitlines()]
    programs = ("ppl-assets", ".venv/", "make ", "python", "pip ", "dagster", "ray ", "kubectl ", "export ", "cd ")
    assert [line for line in lines if line.startswith(programs) and line not in ELSEWHERE] == []


@pytest.mark.parametrize("test", [*ELSEWHERE.values(), *PAGES_ELSEWHERE.values()])
def test_the_test_that_runs_it_exists(test):
    file, name = test.split("::")
    tests = ast.parse((ROOT / "ppl_assets_tests" / file).read_text(encoding="utf-8")).body
    assert name in [each.name for each in tests if isinstance(each, ast.FunctionDef)]


def test_the_continuous_integration_runs_the_tests():
    assert {"make test", "make acceptance"} <= set((ROOT / ".ci" / "run").read_text().splitlines())


def test_the_make_target_of_the_ui_is_the_command_that_its_test_runs():
    assert _planned("ui") == ".venv/bin/ppl-assets ui"


def _planned(target: str) -> str:
    """The last command that `make` would run; these tests may themselves run under `make`, which then says where."""
    command = ["make", "--no-print-directory", "-n", target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()[-1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page):
    # In the site a diagram would be drawn by a script from a network; where README is shown there is none.
    shown = {"yaml", "text", "mermaid"} if page.name == "README.md" else {"yaml", "text"}
    assert {block.language for block in blocks(page)} <= {"sh", "python"} | shown
    assert page.read_text(encoding="utf-8").count("```") == 2 * len(blocks(page)), (
        "a fence that is not at a line's start"
    )
    for block in blocks(page):
        if block.language == "yaml":
            yaml.safe_load(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_sentence_names_exists(page):
    named = re.findall(r"`((?:ppl-assets|make) [^`]+)`", re.sub(r"\s+", " ", prose(page)))
    assert [words for words in named if not _exists(words.split())] == []


def _exists(words: list[str]) -> bool:
    """Whether the Makefile has the target, or the command line the command and its options."""
    if words[0] == "make":
        return all(
            subprocess.run(["make", "-n", word], cwd=ROOT, capture_output=True).returncode == 0 for word in words[1:]
        )
    command = typer.main.get_command(cli.app)
    for word in words[1:]:
        below = command.commands if isinstance(command, typer.core.TyperGroup) else {}
        if word not in below and below and not command.invoke_without_command:
            return False
        command = below.get(word, command)
    options = {option for parameter in command.params for option in parameter.opts}
    return {word for word in words if word.startswith("--")} <= options | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_leads_to_a_file_and_its_heading(page):
    links = [link for link in re.findall(r"\]\(([^)\s]+)", prose(page)) if "://" not in link]
    assert [link for link in links if not _leads_somewhere(page, link)] == []


def _leads_somewhere(page: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    goal = (page.parent / file) if file else page
    return goal.exists() and (not anchor or anchor in _anchors(goal))


def _anchors(page: Path) -> list[str]:
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return [slugify(re.sub(r"[`*]|\]\([^)]*\)", "", heading), "-") for heading in headings]


@pytest.mark.parametrize("name", pages())
def test_generated_pages_are_those_of_the_code(name):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == pages()[name], "run `make reference`"


def test_every_key_of_the_study_has_a_meaning():
    assert [line for line in pages()["study.md"].splitlines() if re.search(r"\|\s*\|$", line)] == []


class Loads(HTMLParser):
    """Ids of a page, and addresses that a browser loads unasked."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.addresses: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.ids |= {str(found["id"])} if "id" in found else set()
        loaded = "href" if tag == "link" and found.get("rel") != "canonical" else "src"
        self.addresses += [str(found[loaded])] if loaded in found else []


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs-build` does: a page outside the nav, or a link to nowhere, ends it."""
    site = tmp_path_factory.mktemp("site")
    command = shlex.split(_planned("docs-build"))
    assert command[1:] == ["-m", "mkdocs", "build", "--strict"]
    built = subprocess.run([sys.executable, *command[1:], "--site-dir", site], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return site


def test_the_site_builds_without_warnings_and_loads_nothing_from_a_network(site):
    built = sorted(site.rglob("*.html"))
    assert {page.relative_to(site) for page in built} >= {
        page.relative_to(ROOT / "docs").with_suffix(".html") for page in DOCS
    }
    assert {each for page in built for each in Loads(page).addresses if "//" in each} == set()


@pytest.mark.slow
def test_the_site_is_served_as_make_docs_does(tmp_path):
    arguments = shlex.split(_planned("docs"))[1:]
    assert arguments == ["-m", "mkdocs", "serve"]
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, *arguments, "--dev-addr", f"127.0.0.1:{port}"], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        for _ in range(600):
            assert server.poll() is None, (tmp_path / "log").read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/tutorial.html") as page:
                assert "From the demo to a first study" in page.read().decode()
                break
            select_nothing_for_a_moment()
        else:
            raise AssertionError("nothing is served after five minutes")
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.mark.parametrize("room", ["likelihood", "estimation", "mixture", "filtering"])
def test_every_public_function_has_its_place_in_the_reference(site, room):
    ids = {name.rpartition(".")[2] for name in Loads(site / "python.html").ids if f"ppl_assets.{room}." in name}
    assert set(importlib.import_module(f"ppl_assets.{room}").__all__) <= ids
