"""Retirement in a study of imported losses: recorded, refused, lasting."""

import json

import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.mixture.changes import GONE
from ppl_assets.orchestration.instance import prepare
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.registry import take_in
from ppl_assets.retirement import retire
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_runner import Silent, run, settings_of, tables_of
from ppl_assets_tests.studies import imported_tables, write_import_study


def retired(settings: Settings, pattern: str, reason: str = "a letter", owner: str = "legal"):
    return retire(settings, pattern, reason=reason, owner=owner, display=Silent(), workers=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study with its losses both in files of its own and imported, run, and one domain of it retired."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        study = write_import_study(tmp_path_factory.mktemp("retired"))
        study.write_text(study.read_text().replace("bpb: [bpb.csv], ", ""))
        settings = settings_of(study)
        prepare(settings)
        take_in(Workspace(settings).study, settings, "bpb", study.parent / "bpb.csv")
        assert [outcome.error for outcome in run(settings) if outcome.error] == []
        assert ("verse", "poetry-1") in certificates(settings), "there is a file to be rid of"
        yield settings, retired(settings, "poetry-[1]")


def certificates(settings: Settings) -> list[tuple[str, str]]:
    selected = Workspace(settings).table("certificates").filter(pl.col("decision") != "fallback")
    return selected.select("target", "domain").rows()


def domains_of(settings: Settings) -> dict[str, set[str]]:
    return {name: set(frame["domain"]) for name, frame in tables_of(settings).items() if "domain" in frame.columns}


def test_the_list_says_who_what_why_and_when_and_what_was_searched(finished):
    settings, signed = finished
    (entry,) = json.loads(settings.retired_file.read_text())["retired"]
    assert (entry["pattern"], entry["reason"], entry["owner"]) == ("poetry-[1]", "a letter", "legal")
    assert entry["domains"] == ["poetry-1"]
    assert entry["date"] == entry["signed_off"]["date"]
    assert entry["signed_off"] == json.loads(json.dumps(signed.signed_off))
    proof = entry["signed_off"]
    lake = Workspace(settings).lake
    for part in proof["tables"]:
        footer = lake.footer(part["table"], part["partition"])
        assert (part["fingerprint"], part["data_version"]) == (footer.fingerprint, footer.data_version)
    files = {place["file"] for place in proof["artefacts"]}
    assert {"report.html", "warehouse.duckdb", "study", "dagster/history/runs/index.db"} <= files
    everything = [*proof["tables"], *proof["published_tables"], *proof["artefacts"]]
    assert {place["traces"] for place in everything} == {0}
    certified = {f"certificates/{target}/{domain}.json" for target, domain in certificates(settings)}
    assert {name for name in files if name.startswith("certificates/")} == certified
    assert len(everything) > 60


def test_a_retired_domain_is_in_no_table_and_the_others_are_in_all(finished):
    settings, _ = finished
    expected = {name for name in imported_tables()[0]["domain"] if name != "poetry-1"}
    found = domains_of(settings)
    assert set() < found.pop("certificates") < expected, "only what is trained on has one"
    for name, domains in found.items():
        assert domains - {GONE} in (expected, set()), name


def test_neither_a_run_nor_the_same_file_brings_it_back(finished):
    settings, _ = finished
    before = settings.retired_file.read_bytes()
    assert run(settings) == []
    copy = take_in(Workspace(settings).study, settings, "bpb", settings.state.parent / "bpb.csv")
    assert "poetry-1" not in pl.read_parquet(copy)["domain"]
    assert run(settings) == []
    assert settings.retired_file.read_bytes() == before


def test_a_file_that_the_study_names_brings_nothing_back_either(finished):
    settings, _ = finished
    study = settings.state.parent / "study.yaml"
    text = study.read_text()
    for copy in (settings.imports / "bpb").glob("*"):
        copy.unlink()
    study.write_text(text.replace("imports: {", "imports: {bpb: [bpb.csv], "))
    try:
        run(settings)
        assert "poetry-1" not in domains_of(settings)["imported_bpb"]
    finally:
        study.write_text(text)
        take_in(Workspace(settings).study, settings, "bpb", settings.state.parent / "bpb.csv")
        run(settings)


@pytest.mark.parametrize(
    ("pattern", "reason", "message"),
    [
        ("poetri-2", "x", r"pattern 'poetri-2' matches no domain \(did you mean 'poetry-2'\?\)"),
        ("*", "x", "pattern '\\*' matches all 7 domains; expected one that leaves some"),
        ("[mp]*", "x", "matches all 7 domains"),
        ("poetry-2", " ", "--reason: found nothing"),
    ],
)
def test_a_pattern_that_means_nothing_or_everything_is_refused_and_changes_nothing(finished, pattern, reason, message):
    settings, _ = finished
    before = settings.retired_file.read_bytes()
    with pytest.raises(InputError, match=message):
        retired(settings, pattern, reason)
    assert settings.retired_file.read_bytes() == before
    assert run(settings) == []


def test_a_trace_that_is_left_is_told_and_nothing_is_signed_until_it_is_gone(finished):
    settings, _ = finished
    note = settings.state / "notes.txt"
    note.write_text("ask about poetry-1, not poetry-12")
    with pytest.raises(InputError, match=r"retired but not signed off: traces are left in notes\.txt"):
        retired(settings, "poetry-[1]")
    assert json.loads(settings.retired_file.read_text())["retired"][0]["signed_off"] is None
    note.write_text("ask about poetry-12 and xpoetry-1")
    again = retired(settings, "poetry-[1]", reason="another", owner="nobody")
    assert again.signed_off is not None
    assert (again.reason, again.owner, again.domains) == ("a letter", "legal", ("poetry-1",))


def test_a_damaged_list_stops_everything(tmp_path):
    settings = settings_of(write_import_study(tmp_path))
    settings.state.mkdir()
    settings.retired_file.write_text('{"retired": [{"pattern": 1')
    with pytest.raises(InputError, match="not a list of retired domains"):
        run(settings, ["domain_catalog"])
