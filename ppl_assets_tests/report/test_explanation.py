"""Explanations of a selected, an excluded, a removed and an unknown name, against the tables that they are from."""

import json
import shutil
from dataclasses import replace

import polars as pl
import pytest
from typer.testing import CliRunner

from ppl_assets.cli import app
from ppl_assets.errors import InputError
from ppl_assets.export import certificate_files, write_certificates
from ppl_assets.orchestration.provenance import is_current
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.report.explanation import explain
from ppl_assets.report.explanation_text import explanation_lines
from ppl_assets.report.tables import sources
from ppl_assets.retired import Retired
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_runner import run
from ppl_assets_tests.studies import write_import_study

POLICY = 'policy: [{action: deny, domains: ["poetry-3"], reason: a complaint, owner: legal, date: 2026-01-31}]\n'


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """The study of imported losses, with one domain removed by policy."""
    study = write_import_study(tmp_path_factory.mktemp("explained"))
    study.write_text(study.read_text() + POLICY)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        settings = Settings(state=study.parent / "state", study=str(study))
        assert [outcome.error for outcome in run(settings, ["selection_certificates"]) if outcome.error] == []
        return Workspace(settings)


def mixture(workspace) -> pl.DataFrame:
    return workspace.table("pretraining_mixture").filter(pl.col("target") == "sums")


def explained(workspace, name, **options) -> tuple[dict, str]:
    facts = explain(sources(workspace), name, "sums", **options)
    return facts, "\n".join(explanation_lines(facts))


def test_a_selected_domain(workspace):
    chosen = mixture(workspace).sort("weight").row(-1, named=True)
    facts, text = explained(workspace, chosen["domain"])
    assert {name: facts["decision"][name] for name in ("weight", "cap", "estimate", "reason")} == {
        name: chosen[name] for name in ("weight", "cap", "estimate", "reason")
    }
    audit = workspace.table("domain_audits").filter(target="sums", domain=chosen["domain"]).row(0, named=True)
    assert facts["counterfactuals"][0]["what"] == f"without family {audit['strongest_family']}"
    assert facts["counterfactuals"][0]["estimate"] == pytest.approx(audit["estimate_without_it"], abs=1e-12)
    assert facts["counterfactuals"][1]["what"] == "with a cap of 2 epochs"
    assert facts["counterfactuals"][1]["cap"] == pytest.approx(2 * chosen["cap"], rel=1e-12)
    assert f"decision: {chosen['decision']}" in text
    assert chosen["reason"] in text


def test_a_domain_that_was_not_selected(workspace):
    left = mixture(workspace).filter(decision="not selected").row(0, named=True)
    facts, text = explained(workspace, left["domain"], families=["family-1"], epochs=[4])
    assert "decision: not selected" in text
    assert [each["what"] for each in facts["counterfactuals"]] == ["without family family-1", "with a cap of 4 epochs"]


def test_a_domain_that_policy_removed(workspace):
    facts, text = explained(workspace, "poetry-3")
    assert facts["decision"]["decision"] == "excluded"
    assert "policy: deny, a complaint (legal, 2026-01-31)" in text
    assert "estimate for sums\n  none could be made" in text
    assert [each["decision"] for each in facts["counterfactuals"]] == ["excluded"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("poetry-33", "unknown, neither one of the 8 domains .*did you mean 'poetry-3'"),
        ("gone.example", "was retired"),
        ("thin.example", r"all pages of this domain were left out: too_few_pages \(3 pages\)"),
    ],
)
def test_names_that_are_no_domain_are_answered_in_a_sentence(workspace, name, sentence):
    rejected = pl.DataFrame({"domain": ["thin.example"], "reason": ["too_few_pages"], "pages": [3]})
    where = replace(sources(workspace), retired=Retired(("gone.*",)), page_rejections=rejected)
    with pytest.raises(InputError, match=sentence):
        explain(where, name, "sums")


def test_before_the_first_run_a_name_is_answered_with_what_to_do(workspace):
    there = sources(workspace)
    empty = replace(there, data=replace(there.data, domains=there.data.domains.clear()))
    with pytest.raises(InputError, match="holds no domains yet; run `ppl-assets run` first"):
        explain(empty, "maths-1", "sums")


def test_an_unknown_target_or_family_is_refused(workspace):
    with pytest.raises(InputError, match="did you mean 'sums'"):
        explain(sources(workspace), "maths-1", "sum")
    with pytest.raises(InputError, match="family 'nobody' has no model in this study"):
        explain(sources(workspace), "maths-1", "sums", families=["nobody"])


def test_every_domain_that_is_trained_on_has_a_certificate_that_equals_the_tables(workspace):
    rows = workspace.table("certificates")
    trained_on = workspace.table("pretraining_mixture").filter(pl.col("weight") > 0)
    assert set(rows.select("target", "domain").iter_rows()) == set(trained_on.select("target", "domain").iter_rows())
    audits = workspace.table("domain_audits")
    for row in rows.iter_rows(named=True):
        own = {"target": row["target"], "domain": row["domain"]}
        whole = json.loads(row["certificate"])
        decided = trained_on.filter(**own).row(0, named=True)
        assert (row["weight"], row["cap"], row["decision"]) == (decided["weight"], decided["cap"], decided["decision"])
        assert row["weight"] == whole["decision"]["weight"]
        assert row["estimate_without_family"] == audits.filter(**own)["estimate_without_it"].item()
        assert row["weight_at_two_epochs"] == whole["weight_at_two_epochs"] <= 2 * row["cap"]
        footer = workspace.lake.footer("pretraining_mixture")
        assert whole["provenance"]["tables"]["pretraining_mixture"] == footer.data_version


def test_each_certificate_is_a_file_that_equals_its_row(workspace):
    settings, rows = workspace.settings, workspace.table("certificates")
    selected = rows.filter(pl.col("decision") != "fallback")
    paths = certificate_files(settings.certificates, rows)
    assert set(settings.certificates.rglob("*.json")) == set(paths)
    assert selected.height > 0
    for path, row in zip(paths, selected.iter_rows(named=True), strict=True):
        assert path.parent.name == row["target"]
        assert path.stem == row["domain"], "names that can be names of files stay as they are"
        assert json.loads(path.read_text()) == json.loads(row["certificate"])


@pytest.mark.parametrize("target", ["sums", "verse"])
def test_a_certificate_holds_what_explain_prints(workspace, target):
    settings, rows = workspace.settings, workspace.table("certificates").filter(target=target)
    row = rows.sort("weight").row(-1, named=True)
    where = ["--study", settings.study, "--state", str(settings.state)]
    printed = CliRunner().invoke(app, ["explain", row["domain"], "--target", target, "--json", *where])
    assert printed.exit_code == 0, printed.output
    facts, certificate = json.loads(printed.stdout), json.loads(row["certificate"])
    assert facts.keys() - certificate.keys() == {"page", "counterfactuals"}
    assert certificate == {name: facts[name] for name in facts.keys() & certificate.keys()} | {
        "weight_at_two_epochs": facts["counterfactuals"][-1]["weight"],
        "provenance": certificate["provenance"],
    }


def test_a_certificate_that_was_deleted_is_missed_and_made_again(workspace, tmp_path):
    settings = replace(workspace.settings, state=tmp_path / "state")
    shutil.copytree(workspace.settings.state, settings.state)
    assert is_current(Workspace(settings), "selection_certificates")
    lost = next(settings.certificates.rglob("*.json"))
    whole = lost.read_bytes()
    lost.unlink()
    assert not is_current(Workspace(settings), "selection_certificates")
    assert [outcome.error for outcome in run(settings, ["selection_certificates"])] == [None]
    assert lost.read_bytes() == whole


def test_certificates_of_domains_that_are_no_longer_chosen_go(tmp_path):
    def certified(*domains):
        texts = [json.dumps({"domain": domain, "licence": "§ 1"}) for domain in domains]
        return pl.DataFrame({"target": "code", "domain": domains, "decision": "selected", "certificate": texts})

    write_certificates(tmp_path, certified("json/code", "example.com"))
    write_certificates(tmp_path, certified("json/code", "JSON/code"))
    contents = [json.loads(path.read_text())["domain"] for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(contents) == ["JSON/code", "json/code"]
    write_certificates(tmp_path, certified("json/code").with_columns(decision=pl.lit("fallback")))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "nothing was selected"
