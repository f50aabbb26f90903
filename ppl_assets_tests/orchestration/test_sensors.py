"""Sensors that keep the state current: what they request, when, and how often."""

import shutil
from collections import Counter

import dagster as dg
import polars as pl
import pytest
import transformers

from ppl_assets import definitions, gpu_definitions
from ppl_assets.orchestration.attempts import in_progress
from ppl_assets.orchestration.instance import open_instance, prepare
from ppl_assets.orchestration.runner import run_stale
from ppl_assets.orchestration.status import partition_states
from ppl_assets.orchestration.step import WorkspaceResource
from ppl_assets.orchestration.whole_graph import whole_graph
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, tiny_gpt2
from ppl_assets_tests.orchestration.test_runner import Silent, run, settings_of
from ppl_assets_tests.studies import imported_tables, write_import_study

CHECK = dg.AssetCheckKey(dg.AssetKey("correlation_estimates"), "models_are_current")
LOCATIONS = (definitions.defs, gpu_definitions.defs)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        settings = settings_of(write_import_study(tmp_path_factory.mktemp("finished")))
        run_stale(settings, select=None, display=Silent(), workers=1)
        yield settings


@pytest.fixture
def settings(finished, tmp_path) -> Settings:
    """A finished study of one's own."""
    shutil.copytree(finished.state, tmp_path / "state")
    settings = settings_of(write_import_study(tmp_path))
    prepare(settings)
    return settings


def tick(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """What the sensors of both code locations request now."""
    requests = []
    for location in LOCATIONS:
        (sensor,) = location.sensors
        resources = {"workspace": WorkspaceResource()}
        with dg.build_sensor_context(
            instance=instance, instance_ref=instance.get_ref(), definitions=location, resources=resources
        ) as context:
            requests += sensor.evaluate_tick(context).run_requests
    return requests


def execute(instance: dg.DagsterInstance, request: dg.RunRequest) -> bool:
    """Run a request as the daemon would; whether it succeeded."""
    result = (
        whole_graph()
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            instance=instance,
            asset_selection=request.asset_selection,
            partition_key=request.partition_key,
            tags=request.tags,
            raise_on_error=False,
        )
    )
    return result.success


def keep_current(instance: dg.DagsterInstance) -> tuple[list[str], set[str]]:
    """Tick and execute until nothing is due: all that was requested, in order, and what failed."""
    requested: list[str] = []
    failed: set[str] = set()
    while requests := tick(instance):
        for request in requests:
            (key,) = request.asset_selection
            name = f"{key.to_user_string()}[{request.partition_key or ''}]"
            requested.append(name)
            if not execute(instance, request):
                failed.add(name)
    return requested, failed


def not_current(settings: Settings) -> list[str]:
    states = partition_states(Workspace(settings))
    return [f"{each.asset}[{each.partition}]" for each in states if each.state != "current"]


def test_both_start_stopped_and_request_nothing_while_all_is_current(settings):
    sensors = [sensor for location in LOCATIONS for sensor in location.sensors]
    assert {sensor.name for sensor in sensors} == {"keep_current", "keep_models_current"}
    assert all(sensor.default_status is dg.DefaultSensorStatus.STOPPED for sensor in sensors)
    with open_instance() as instance:
        assert tick(instance) == []


def test_a_changed_score_is_followed_down_the_graph_once_each(settings):
    _, scores = imported_tables()
    changed = (pl.col("slug") == "model-03") & (pl.col("task") == "sums")
    scores = scores.with_columns(value=pl.when(changed).then(0.99).otherwise("value"))
    scores.write_csv(settings.state.parent / "scores.csv")
    with open_instance() as instance:
        requested, failed = keep_current(instance)
    assert failed == set()
    assert set(Counter(requested).values()) == {1}
    assert [name for name in requested if "model-" in name] == ["benchmark_scores[model-03]"]
    assert {"benchmark_errors[]", "correlation_estimates[]", "selection_report[]"} <= set(requested)
    assert "domain_catalog[]" not in requested
    assert not_current(settings) == []


def test_what_is_requested_and_not_done_yet_is_not_requested_again_and_holds_up_what_needs_it(settings):
    study = settings.state.parent / "study.yaml"
    study.write_text(study.read_text().replace("replicates: 200", "replicates: 100"))
    with open_instance() as instance:
        first = {request.asset_selection[0].to_user_string(): request for request in tick(instance)}
        assert set(first) == {"correlation_estimates", "signal_gate", "rank_prediction"}
        job = whole_graph().resolve_implicit_global_asset_job_def()
        for request in first.values():
            instance.create_run_for_job(job, asset_selection=frozenset(request.asset_selection), tags=request.tags)
        assert in_progress(instance) == {(asset, None) for asset in first}
        assert tick(instance) == []


def test_a_model_that_fails_is_tried_once_and_does_not_block_the_fan_in(settings):
    folder = settings.state.parent
    tiny_gpt2().save_pretrained(folder / "broken")
    transformers.PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer()).save_pretrained(folder / "broken")
    study = folder / "study.yaml"
    study.write_text(study.read_text() + "models: [{slug: broken, family: ours, source: broken}]\n")
    with open_instance() as instance:
        requested, failed = keep_current(instance)
        assert failed == {"domain_logliks[broken]", "benchmark_scores[broken]"}
        assert set(Counter(requested).values()) == {1}
        assert {"correlation_estimates[]", "selection_report[]"} <= set(requested)
        assert set(not_current(settings)) == failed
        assert tick(instance) == []
        states = partition_states(Workspace(settings), instance)
        check = instance.event_log_storage.get_latest_asset_check_execution_by_key([CHECK])[CHECK]
    assert {f"{each.asset}[{each.partition}]" for each in states if each.state == "failed"} == failed
    evaluation = check.event.dagster_event.event_specific_data
    assert not evaluation.passed
    assert set(evaluation.metadata["failed"].value) == failed
    assert evaluation.description == "24 of 26 partitions by model are current."


def test_a_part_that_was_lost_is_made_again(settings):
    Workspace(settings).lake.path("domain_logliks", "model-04").unlink()
    with open_instance() as instance:
        requested, failed = keep_current(instance)
        assert (requested, failed) == (["domain_logliks[model-04]"], set())
        Workspace(settings).lake.path("domain_logliks", "model-04").unlink()
        (again,) = tick(instance)
    assert again.partition_key == "model-04"
    assert not again.run_key.endswith(":"), "a key of its own: the first one was used"


def test_a_model_that_leaves_loses_its_partition_and_what_was_its(settings):
    losses, scores = imported_tables()
    for frame, name in ((losses, "bpb.csv"), (scores, "scores.csv")):
        frame.filter(pl.col("slug") != "model-11").write_csv(settings.state.parent / name)
    with open_instance() as instance:
        requested, failed = keep_current(instance)
        assert "model-11" not in instance.get_dynamic_partitions("model")
    assert failed == set()
    assert not any("model-" in name for name in requested), "no other model is computed again"
    assert run(settings) == []
