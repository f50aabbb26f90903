"""The texts of tasks, read through lm-eval as the tasks are."""

import json

import pytest

from ppl_assets.benchmarks.build import build_task
from ppl_assets.benchmarks.overlap import overlapping
from ppl_assets.benchmarks.task_texts import task_texts
from ppl_assets.study.schema import BuiltTask
from ppl_assets_tests.benchmarks.pages import corpus


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    for form in ("choice", "continuation"):
        task = BuiltTask(task=f"own_{form}", pages="*", form=form, items=8, context_bytes=80)
        build_task(task, corpus(), folder, seed=0)
    return folder


def test_every_question_stands_with_each_of_its_answers(folder):
    for form in ("choice", "continuation"):
        lines = [json.loads(line) for line in (folder / f"own_{form}.jsonl").read_text().splitlines()]
        texts, unread = task_texts([f"own_{form}"], [folder])
        answers = {
            line["context"] + answer for line in lines for answer in line.get("choices", [line.get("continuation")])
        }
        assert set(texts) == answers
        assert unread == []


def test_a_page_that_holds_a_question_overlaps_and_another_does_not(folder):
    texts, _ = task_texts(["own_choice"], [folder])
    pages = [
        "Nothing of the sort stands here, though it goes on for quite some time, as pages do. " * 3,
        f"See: {texts[0]}",
    ]
    assert overlapping(pages, texts).tolist() == [False, True]


def test_tasks_that_cannot_be_read_are_named_and_not_taken_for_clean(folder, tmp_path):
    (tmp_path / "broken.yaml").write_text(
        "task: broken\ndataset_path: json\ndataset_kwargs: {data_files: {test: /nowhere/at/all.jsonl}}\n"
        "test_split: test\n"
        "output_type: loglikelihood\ndoc_to_text: a\ndoc_to_target: b\nmetric_list: [{metric: perplexity}]\n"
    )
    texts, unread = task_texts(["broken", "own_choice"], [tmp_path, folder])
    assert unread == ["broken"]
    assert len(texts) == 32
