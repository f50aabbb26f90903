"""Decisions made again: unchanged grounds give the decision that was made, changed ones that of a changed study."""

import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.mixture.counterfactuals import decide_again, with_epochs, without_family
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.report.tables import grounds
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_runner import run
from ppl_assets_tests.scored_study import write_scored_study
from ppl_assets_tests.studies import write_import_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_import_study(folder)
    return folder


@pytest.fixture(scope="module")
def workspace(folder):
    return _run(folder, "state")


def _run(folder, state, study="study.yaml", *, assets=("pretraining_mixture",)) -> Workspace:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        settings = Settings(state=folder / state, study=str(folder / study))
        assert [outcome.error for outcome in run(settings, [*assets]) if outcome.error] == []
        return Workspace(settings)


def decisions_of(workspace: Workspace, target: str) -> dict[str, tuple]:
    rows = workspace.table("pretraining_mixture").filter(pl.col("target") == target)
    return {name: facts for name, *facts in rows.select("domain", "estimate", "weight", "cap", "decision").iter_rows()}


def again(decisions) -> dict[str, tuple]:
    return {name: [one.estimate, one.weight, one.cap, one.decision] for name, one in decisions.items()}


@pytest.mark.parametrize("target", ["sums", "verse"])
def test_the_same_grounds_give_the_same_decision(workspace, target):
    assert again(decide_again(grounds(workspace), target)) == decisions_of(workspace, target)


def _never_had(folder, family: str, study="study.yaml") -> Workspace:
    """The study's mixtures had no model of the family ever been imported."""
    for name in ("bpb", "scores"):
        rows = pl.read_csv(folder / f"{name}.csv").filter(pl.col("family") != family)
        rows.write_csv(folder / f"{name}-without.csv")
    text = (folder / study).read_text()
    (folder / f"without-{study}").write_text(
        text.replace("name: ", "name: without-")
        .replace("[bpb.csv]", "[bpb-without.csv]")
        .replace("[scores.csv]", "[scores-without.csv]")
    )
    return _run(folder, f"without-{study}.state", f"without-{study}")


def test_without_a_family_it_is_the_decision_of_a_study_that_never_had_it(workspace, folder):
    never = _never_had(folder, "family-2")
    found = decide_again(without_family(grounds(workspace), "family-2", "sums"), "sums")
    assert again(found) == decisions_of(never, "sums")
    verdict = never.table("signal_gate").filter(pl.col("target") == "sums")["verdict"].item()
    assert {one.verdict for one in found.values()} == {verdict}


def test_without_a_family_errors_count_the_choice_of_pages_as_those_of_a_study_that_never_had_it(tmp_path):
    """Scores minus two standard errors: a standard error without its part by page would choose other domains."""
    models = ("alpha", "beta", "gamma", "delta", "epsilon")
    workspaces = []
    for own in (models, models[:-1]):
        study = write_scored_study(tmp_path / own[-1], own, known="")
        text = study.read_text().replace("{keep: 0.5}", "{keep: 0.7, lower_confidence: 2}")
        study.write_text(text.replace("minimum_models: 3}", "minimum_models: 3, gate: false}"))
        workspaces.append(_run(study.parent, "state"))
    workspace, never = workspaces
    found = without_family(grounds(workspace), "epsilon", "built")
    rows = never.table("correlation_estimates").filter(target="built")
    assert rows["page_stderr"].max() > 0.01
    assert found.correlation_estimates.equals(rows)
    assert again(decide_again(found, "built")) == decisions_of(never, "built")


def test_a_contrast_is_audited_and_decided_again_without_a_family(folder):
    """Its errors are made from those of another target too, also where only it is asked for."""
    plain = "  verse: {tasks: [{task: verse, metric: acc, kind: accuracy}]"
    text = (folder / "study.yaml").read_text()
    (folder / "contrast.yaml").write_text(
        text.replace("name: imported", "name: contrast").replace(plain, f"{plain}, contrast_to: [sums]")
    )
    workspace = _run(
        folder, "contrast", "contrast.yaml", assets=("pretraining_mixture", "domain_audits", "next_measurements")
    )
    estimates = workspace.table("correlation_estimates").filter(target="verse", estimator="gls").sort("domain")
    audits = workspace.table("domain_audits").filter(target="verse").sort("domain")
    # Sums over models in another order.
    assert audits["estimate"].to_list() == pytest.approx(estimates["estimate"].to_list(), abs=1e-12)
    assert audits["estimate_without_it"].is_not_null().all()
    assert set(workspace.table("next_measurements")["target"]) == {"sums", "verse"}
    found = decide_again(without_family(grounds(workspace), "family-2", "verse"), "verse")
    assert again(found) == decisions_of(_never_had(folder, "family-2", "contrast.yaml"), "verse")


def test_other_epochs_are_those_of_a_study_that_states_them(workspace, folder):
    text = (folder / "study.yaml").read_text()
    (folder / "twice.yaml").write_text(
        text.replace("name: imported", "name: twice").replace("{keep: 0.25}", "{keep: 0.25, max_epochs: 2}")
    )
    twice = _run(folder, "twice", "twice.yaml")
    assert again(decide_again(with_epochs(grounds(workspace), 2), "sums")) == decisions_of(twice, "sums")


def test_a_family_without_which_too_few_models_are_left_is_told(workspace):
    study = workspace.study
    estimation = study.estimation.model_copy(update={"minimum_models": 12})
    strict = grounds(workspace)
    object.__setattr__(strict, "study", study.model_copy(update={"estimation": estimation}))
    with pytest.raises(InputError, match="10 models have losses and scores, expected at least 12"):
        without_family(strict, "family-1", "sums")
    with pytest.raises(InputError, match="family 'nobody' has no model in this study; expected one of family-0"):
        without_family(strict, "nobody", "sums")
