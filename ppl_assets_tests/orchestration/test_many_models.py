"""More models than Dagster's own staleness follows (a hundred partitions): what status and check say of each."""

import os
import subprocess
import sys

import dagster as dg
import polars as pl
import transformers

from ppl_assets.orchestration.instance import open_instance
from ppl_assets.orchestration.provenance import RECIPES
from ppl_assets.orchestration.status import partition_states
from ppl_assets.orchestration.whole_graph import whole_graph
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, tiny_gpt2
from ppl_assets_tests.orchestration.test_runner import run, settings_of
from ppl_assets_tests.orchestration.test_sensors import CHECK
from ppl_assets_tests.studies import write_many_models

MODELS = 150
# One of each way to be behind, the last ones among many.
BEHIND = {
    ("domain_logliks", "model-149", "missing"),
    ("benchmark_scores", "model-120", "stale"),
    # A model that the study lists without a corpus to score it on.
    ("domain_logliks", "broken", "failed"),
    ("benchmark_scores", "broken", "failed"),
}


def test_status_and_check_tell_which_of_150_models_are_behind_and_how(tmp_path):
    settings = _with_some_behind(settings_of(write_many_models(tmp_path, models=MODELS, domains=4)))
    with open_instance() as instance:
        assert len(instance.get_dynamic_partitions("model")) == MODELS + 1
        states = partition_states(Workspace(settings), instance)
        evaluation = _checked(instance)
    by_model = [each for each in states if RECIPES[each.asset].partitioned_by == "model"]
    assert len(by_model) == 2 * (MODELS + 1)
    assert {(each.asset, each.partition, each.state) for each in by_model if each.state != "current"} == BEHIND
    assert not evaluation.passed
    assert evaluation.description == "298 of 302 partitions by model are current."
    for state in ("failed", "missing", "stale"):
        named = {f"{asset}[{model}]" for asset, model, how in BEHIND if how == state}
        assert set(evaluation.metadata[state].value) == named
    _assert_the_command_line_says_so(settings)


def _with_some_behind(settings: Settings) -> Settings:
    folder = settings.state.parent
    tiny_gpt2().save_pretrained(folder / "broken")
    transformers.PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer()).save_pretrained(folder / "broken")
    study = folder / "study.yaml"
    study.write_text(study.read_text() + "models: [{slug: broken, family: ours, source: broken}]\n")
    failed = {str(outcome.task) for outcome in run(settings, ["benchmark_errors"]) if outcome.error}
    assert failed == {"domain_logliks[broken]", "benchmark_scores[broken]"}
    assert {each.state for each in partition_states(Workspace(settings)) if each.partition} == {"current", "missing"}
    Workspace(settings).lake.remove("domain_logliks", "model-149")
    scores = pl.read_csv(folder / "scores.csv")
    scores.with_columns(pl.when(slug="model-120").then(0.75).otherwise("value").alias("value")).write_csv(
        folder / "scores.csv"
    )
    assert [str(outcome.task) for outcome in run(settings, ["imported_scores"])] == ["imported_scores"]
    return settings


def _checked(instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    job = whole_graph().resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={CHECK})
    assert job.execute_in_process(instance=instance).success
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key([CHECK])[CHECK]
    return found.event.dagster_event.event_specific_data


def _assert_the_command_line_says_so(settings: Settings) -> None:
    command = [sys.executable, "-m", "ppl_assets", "status", "--study", settings.study, "--state", str(settings.state)]
    said = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "300"}, check=True)
    lines = {asset: next(line for line in said.stdout.splitlines() if asset in line) for asset, _, _ in BEHIND}
    for asset, model, state in BEHIND:
        assert f"{model} ({state})" in lines[asset]
    counts = {asset: [cell.strip() for cell in line.split("│")[2:6]] for asset, line in lines.items()}
    assert counts == {"domain_logliks": ["149", "0", "1", "1"], "benchmark_scores": ["149", "1", "1", "0"]}
