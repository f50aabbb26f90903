"""README and docs: every command is run, every link leads somewhere, generated pages are what the code says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ppl_assets.reference import pages
from ppl_assets.settings import Settings
from ppl_assets.warehouse import Lake
from ppl_assets_tests.export.test_formats import mixture_table
from ppl_assets_tests.studies import write_import_study

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Not run here: `make demo` and the run of an initialised study are test_acceptance.py's, `make test` is the continuous
# integration's, of `make ui` test_ui.py runs the command behind it; `make bench` is run by hand, it takes long.
ELSEWHERE = {
    "make demo",
    "make ui",
    "make test",
    "make bench",
    "ppl-assets run --study mine/study.yaml --state mine/.ppl",
    # It runs the whole graph; the tests of orchestration and retirement call what is behind it.
    "ppl-assets retire-domain '*.example.com' --reason 'letter of 2026-01-31' --owner legal --study mine/study.yaml "
    "--state mine/.ppl",
}


def commands() -> list[str]:
    """Every line of a shell block in README and docs, without its comment."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            lines = (shlex.join(shlex.split(line, comments=True)) for line in block.splitlines())
            found += [line.removeprefix(".venv/bin/") for line in lines if line]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands run, one after the other, as a reader would.

    Losses and scores to import lie there, and in the default state folder a mixture for the demo's targets, as
    `make demo` leaves one.
    """
    folder = tmp_path_factory.mktemp("reader")
    lake = Lake(Settings.from_environment(state=folder / ".ppl").lake)
    lake.write("pretraining_mixture", mixture_table(), fingerprint="the demo's")
    write_import_study(folder)
    (folder / "bpb.csv").rename(folder / "losses.csv")
    return folder


@pytest.mark.parametrize("command", [command for command in commands() if command not in ELSEWHERE])
def test_every_other_command_does_what_it_says(folder, command):
    program, *arguments = shlex.split(command)
    assert program == "ppl-assets", f"who runs {command!r}?"
    result = subprocess.run(
        [sys.executable, "-m", "ppl_assets", *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("target", sorted(command.removeprefix("make ") for command in ELSEWHERE if "make" in command))
def test_make_knows_every_target_that_the_readme_names(target):
    assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("name", pages())
def test_generated_pages_are_those_of_the_code(name):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == pages()[name], "run `make reference`"
