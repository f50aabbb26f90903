"""A study says anew where losses come from: the result is that of a state folder that knew nothing else."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_runner import assert_same_tables, run, settings_of
from ppl_assets_tests.scored_study import DOMAINS, write_scored_study

WITHOUT_TEXT = """\
imports: {bpb: [losses.csv, more.csv]}
targets: {known: {tasks: [{task: exam, metric: acc, kind: accuracy}]}}
mixture: {keep: 0.5}
"""
IMPORTED = ("source: alpha}", "source: imported}")


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Settings:
    """Two models, scored here; imported losses of one of them, on a domain that the text does not have too."""
    path = write_scored_study(tmp_path_factory.mktemp("origins"), ("alpha", "beta"), known="")
    imported = {"slug": "alpha", "family": "alpha", "domain": [*DOMAINS, "elsewhere.org"], "bpb": 1.0}
    pl.DataFrame(imported).write_csv(path.parent / "losses.csv")
    path.write_text(path.read_text().replace("targets:\n", "imports: {bpb: [losses.csv]}\ntargets:\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        losses(settings_of(path))
    return settings_of(path)


@pytest.fixture
def study(scored, tmp_path) -> Iterator[Path]:
    """The study, to be edited, beside a copy of what was scored of it in ``state``; the models' folders do not move."""
    shutil.copytree(scored.state, tmp_path / "state")
    path = Path(scored.study)
    before = path.read_text()
    yield path
    path.write_text(before)


def losses(settings: Settings) -> dict[str, pl.DataFrame]:
    """Run what losses need; all that is known of them afterwards."""
    outcomes = run(settings, select=["domain_logliks"])
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    return stored_losses(settings)


def stored_losses(settings: Settings) -> dict[str, pl.DataFrame]:
    workspace = Workspace(settings)
    chunks = workspace.by_model("chunk_logliks").sort("slug", "chunk_id")
    return {"domain_logliks": workspace.by_model("domain_logliks"), "chunk_logliks": chunks}


def test_a_model_that_becomes_imported_and_scored_again_leaves_no_trace_of_what_it_was(study, tmp_path):
    settings, scored_here = Settings(state=tmp_path / "state", study=str(study)), study.read_text()
    first = stored_losses(settings)
    of_alpha = pl.col("slug") == "alpha"
    assert first["domain_logliks"].filter(of_alpha, pl.col("chunks").is_null())["domain"].to_list() == ["elsewhere.org"]
    study.write_text(scored_here.replace(*IMPORTED))
    imported = losses(settings)
    assert imported["domain_logliks"].filter(of_alpha)["bpb"].to_list() == [1.0] * 5
    assert imported["chunk_logliks"]["slug"].unique().to_list() == ["beta"]
    study.write_text(scored_here)
    assert_same_tables(losses(settings), first)


def test_losses_of_text_that_the_study_has_no_more_do_not_count(study, tmp_path):
    settings, with_text = Settings(state=tmp_path / "state", study=str(study)), study.read_text()
    (study.parent / "more.csv").write_text("slug,domain,bpb\nbeta,elsewhere.org,2\n")
    models = with_text[with_text.index("models:") : with_text.index("benchmarks:")]
    study.write_text(f"name: scored\n{models}{WITHOUT_TEXT}")
    now = losses(settings)
    assert now["domain_logliks"].select("slug", "bpb").rows() == [("alpha", 1.0)] * 5 + [("beta", 2.0)]
    assert now["chunk_logliks"].is_empty()
