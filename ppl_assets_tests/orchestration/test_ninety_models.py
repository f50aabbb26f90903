"""Ninety models that are current, and one more: what the one costs, run by run, on either way to keep a study current.

All are scored for real, which takes minutes: `make test-faults` runs it.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from ppl_assets.orchestration.instance import open_instance, prepare
from ppl_assets.orchestration.status import partition_states
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_reruns import DECISION, FIRST
from ppl_assets_tests.orchestration.test_runner import run, settings_of
from ppl_assets_tests.orchestration.test_sensors import keep_current
from ppl_assets_tests.scored_study import add_model, write_scored_study

pytestmark = pytest.mark.slow

NINETY = tuple(f"model-{number:02d}" for number in range(90))
ONE_MORE = "one-more"
OF_THE_ONE = {(asset, ONE_MORE) for asset in ("chunk_logliks", "domain_logliks", "benchmark_scores")}


@pytest.fixture(scope="module")
def ninety(tmp_path_factory) -> Settings:
    """Ninety scored models, all current."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        settings = settings_of(write_scored_study(tmp_path_factory.mktemp("ninety"), NINETY, known=""))
        outcomes = run(settings, workers=2)
        assert [outcome.error for outcome in outcomes if outcome.error] == []
        scored = {outcome.task.partition for outcome in outcomes if outcome.task.asset == "chunk_logliks"}
        assert scored == set(NINETY)
        return settings


@pytest.fixture
def with_one_more(ninety, tmp_path) -> Iterator[Settings]:
    """The same with a model added to the study's list, and nothing else done. The models' folders do not move."""
    shutil.copytree(ninety.state, tmp_path / "state")
    settings = Settings(state=tmp_path / "state", study=ninety.study)
    study = Path(ninety.study)
    with_ninety = study.read_text()
    add_model(study, ONE_MORE)
    prepare(settings)
    yield settings
    study.write_text(with_ninety)


def runs_since(instance: dg.DagsterInstance, before: int) -> Counter[tuple[str, str | None]]:
    """What the runs after the first `before` of an instance were about, each with how many there were."""
    later = instance.get_runs()[: instance.get_runs_count() - before]
    assert all(run.is_success for run in later)
    return Counter(
        (key.to_user_string(), run.tags.get("dagster/partition")) for run in later for key in run.asset_selection
    )


def assert_one_run_each_of_the_one_and_the_fan_in(settings: Settings, found: Counter[tuple[str, str | None]]) -> None:
    assert set(found.values()) == {1}
    assert {key for key in found if key[1] is not None} == OF_THE_ONE
    fan_in = {asset for asset, partition in found if partition is None} - {"model_registry"}
    assert FIRST <= fan_in <= DECISION
    assert {each.state for each in partition_states(Workspace(settings))} == {"current"}
    assert len(Workspace(settings).present("domain_logliks")) == 91


def test_one_more_model_is_three_runs_and_the_fan_in_on_the_command_line(with_one_more):
    with open_instance() as instance:
        before = instance.get_runs_count()
        outcomes = run(with_one_more, workers=2)
        assert [outcome.error for outcome in outcomes if outcome.error] == []
        assert_one_run_each_of_the_one_and_the_fan_in(with_one_more, runs_since(instance, before))


def test_one_more_model_is_three_runs_and_the_fan_in_where_the_sensors_request_them(with_one_more):
    with open_instance() as instance:
        before = instance.get_runs_count()
        _, failed = keep_current(instance)
        assert failed == set()
        assert_one_run_each_of_the_one_and_the_fan_in(with_one_more, runs_since(instance, before))
