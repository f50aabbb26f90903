"""What makes a pilot's results stale: everything that decides what its models are trained on."""

import pytest

from ppl_assets.orchestration.provenance import fingerprint, pilot_measures
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets_tests.filtering.selections import edit_pages, write_source, write_study
from ppl_assets_tests.pilot.test_arms import PILOT

BUILT = (
    "benchmarks: {build: [{task: t, pages: '*', form: continuation}]}\n"
    "targets:\n  good: {tasks: [{task: t, metric: bits_per_byte, kind: bpb}]}\n"
)


def opened(folder) -> Workspace:
    """The workspace of the study in `folder`, as its files are now."""
    return Workspace(Settings(state=folder / "state", study=str(folder / "study.yaml")))


def prints(folder) -> dict[str, str]:
    """Fingerprints of arms of the pilot in `folder`."""
    workspace = opened(folder)
    return {arm: fingerprint(workspace, "pilot_runs", arm) for arm in ("uniform", "positive", "negative")}


@pytest.fixture
def folder(tmp_path):
    write_source(tmp_path)
    write_study(tmp_path, arms=("uniform",), **{"policy:\n": PILOT + "policy:\n"})
    return tmp_path


def test_texts_that_the_study_names_are_inputs_of_the_positive_control(folder):
    before = prints(folder)
    (folder / "liked.jsonl").write_text('{"text": "another"}\n')
    after = prints(folder)
    assert {arm for arm in before if before[arm] != after[arm]} == {"positive"}


def test_texts_named_for_a_target_whose_tasks_are_built_from_pages_are_not(folder):
    changes = {"targets:\n  good: {tasks: [{task: t, metric: m, kind: bpb}]}\n": BUILT}
    write_study(folder, arms=("uniform",), **{"policy:\n": PILOT + "policy:\n"}, **changes)
    before = prints(folder)
    (folder / "liked.jsonl").write_text('{"text": "another"}\n')
    assert prints(folder) == before


@pytest.mark.parametrize(
    ("tokenizer", "stale"),
    [("tokenizer: model, ", {"positive", "negative"}), ("", {"uniform", "positive", "negative"})],
)
def test_the_pool_is_an_input_of_what_is_drawn_from_it(folder, tokenizer, stale):
    """Of controls, and of every arm whose tokenizer is; else an arm of the filter rests on what it selected."""
    pilot = PILOT.replace("pilot: {", "pilot: {" + tokenizer)
    write_study(folder, arms=("uniform",), **{"policy:\n": pilot + "policy:\n"})
    before = prints(folder)
    edit_pages(folder, {"site5-1"})
    after = prints(folder)
    assert {arm for arm in before if before[arm] != after[arm]} == stale


def test_an_edited_choice_is_another_plan_for_every_arm_and_what_was_measured_stays(folder):
    """Weights have an identity of their own, of pages and settings; so have the numbers of what they can do."""
    before, measured = prints(folder), pilot_measures(opened(folder))
    changes = {"keep: 0.25": "keep: 0.2", "policy:\n": PILOT + "policy:\n"}
    write_study(folder, arms=("uniform",), **changes)
    after = prints(folder)
    assert all(after[arm] != before[arm] for arm in before)
    assert pilot_measures(opened(folder)) == measured
    write_study(folder, arms=("uniform",), **changes, **{"metric: m": "metric: n"})
    assert pilot_measures(opened(folder)) != measured
