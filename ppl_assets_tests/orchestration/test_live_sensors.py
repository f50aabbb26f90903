"""The sensors under a live daemon: a study is edited, and what follows comes by itself.

A sensor ticks every 30 s, and each tick goes one level down the graph, which takes minutes: `make test-faults` runs it.
"""

from collections import Counter
from zlib import crc32

import dagster as dg
import pytest

from ppl_assets import definitions, gpu_definitions
from ppl_assets.orchestration.attempts import in_progress
from ppl_assets.orchestration.instance import open_instance, prepare
from ppl_assets.orchestration.status import partition_states
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets.warehouse import replace_file
from ppl_assets_tests.faults.invariants import assert_nothing_is_half_written
from ppl_assets_tests.orchestration.test_reruns import DECISION, FIRST
from ppl_assets_tests.orchestration.test_runner import assert_same_tables, run, settings_of, tables_of
from ppl_assets_tests.scored_study import MODELS, listed, write_model, write_scored_study
from ppl_assets_tests.web_ui import serving

pytestmark = pytest.mark.slow

ADDED, REMOVED = "epsilon", "delta"
BY_MODEL = ("chunk_logliks", "domain_logliks", "benchmark_scores")


def progress(settings: Settings, instance: dg.DagsterInstance) -> str:
    """``current`` once all is and no run is left, ``failed`` as soon as something has."""
    states = {each.state for each in partition_states(Workspace(settings), instance)}
    if "failed" in states:
        return "failed"
    return "current" if states == {"current"} and not in_progress(instance) else "under way"


def test_the_daemon_follows_an_edited_list_of_models_and_requests_exactly_what_is_missing(tmp_path):
    study = write_scored_study(tmp_path, known="")
    settings = settings_of(study)
    assert not any(outcome.error for outcome in run(settings, workers=2))
    prepare(settings)
    with serving(settings) as server, open_instance() as instance:
        before = {run.run_id for run in instance.get_runs()}
        for name, location in (("ppl_assets", definitions), ("ppl_assets_gpu", gpu_definitions)):
            (sensor,) = location.defs.sensors
            server.start_sensor(name, sensor.name)
        write_model(study.parent / ADDED, seed=crc32(ADDED.encode()))
        # At once: a tick between two edits would follow each of them.
        replace_file(study, study.read_text().replace(listed(REMOVED), listed(ADDED)))
        assert server.await_answer(lambda: progress(settings, instance), {"current", "failed"}) == "current"
        runs = [run for run in instance.get_runs() if run.run_id not in before]
        known = set(instance.get_dynamic_partitions("model"))
    left = set(MODELS) - {REMOVED}
    assert known == {ADDED, *left}
    about = Counter(
        (key.to_user_string(), run.tags.get("dagster/partition")) for run in runs for key in run.asset_selection
    )
    assert set(about.values()) == {1}
    assert {key for key in about if key[1] is not None} == {(asset, ADDED) for asset in BY_MODEL}
    whole = {asset for asset, partition in about if partition is None} - {"model_registry"}
    assert FIRST <= whole <= DECISION
    assert all(set(Workspace(settings).lake.partitions(asset)) == known for asset in BY_MODEL)
    assert_nothing_is_half_written(settings)
    at_once = settings_of(study, "at-once")
    assert not any(outcome.error for outcome in run(at_once, workers=2))
    followed, made_at_once = tables_of(settings), tables_of(at_once)
    # It tells of the mixture before, and where all is made at once there was none.
    changes, no_changes = (tables.pop("mixture_changes")["change"] for tables in (followed, made_at_once))
    assert changes.null_count() == 0
    assert no_changes.null_count() == len(no_changes)
    assert_same_tables(followed, made_at_once)
