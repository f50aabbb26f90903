"""Built tasks are real lm-eval tasks of real continuations, repeatable, and free of text that was seen elsewhere."""

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.tasks import TaskManager

from ppl_assets.benchmarks.build import build_task, windows
from ppl_assets.benchmarks.overlap import RUN_BYTES
from ppl_assets.errors import InputError
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import BuiltTask
from ppl_assets_tests.benchmarks.pages import corpus, page, prose

PAGES = corpus()
TEXTS = dict(PAGES.select("page_id", "text").iter_rows())
CHOICE = BuiltTask(
    task="prose_choice", pages="*/prose", form="choice", items=40, context_bytes=100, continuation_bytes=40
)
COST = BuiltTask(
    task="code_cost", pages="*/code", form="continuation", items=30, context_bytes=90, continuation_bytes=50
)


def lines(folder: Path, task: BuiltTask) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{task.task}.jsonl").read_text().splitlines()]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_choice_is_between_the_right_continuation_and_three_of_other_pages(tmp_path: Path) -> None:
    row = build_task(CHOICE, PAGES, tmp_path, seed=0)
    items = lines(tmp_path, CHOICE)
    assert len(items) == row["items"] == 40
    held_out = PAGES.filter((pl.col("split") == "benchmark") & pl.col("domain").str.ends_with("/prose"))
    for item in items:
        right = item["choices"][item["label"]]
        assert item["context"] + right in TEXTS[item["page_id"]]
        assert len(item["context"].encode()) == 100
        assert [len(choice.encode()) for choice in item["choices"]] == [40] * 4
        assert len(set(item["choices"])) == 4
        for wrong in set(item["choices"]) - {right}:
            sources = [page_id for page_id, text in TEXTS.items() if wrong in text]
            assert sources
            assert set(sources) <= set(held_out["page_id"]) - {item["page_id"]}
    assert row["pages"] == len({item["page_id"] for item in items}) == held_out.height
    # Uniform labels: 10 expected of each with standard deviation 2.7; a constant or two-valued label fails.
    assert min(Counter(item["label"] for item in items).values()) >= 3


def test_a_continuation_is_what_follows_in_the_page(tmp_path: Path) -> None:
    row = build_task(COST, PAGES, tmp_path, seed=0)
    for item in lines(tmp_path, COST):
        assert item["context"] + item["continuation"] in TEXTS[item["page_id"]]
        assert len(item["continuation"].encode()) == 50
        assert item["continuation"][0] == " "
        assert not item["continuation"][1].isspace()
        assert not item["context"][-1].isspace()
    assert (row["task"], row["form"], row["items"], row["dropped"]) == ("code_cost", "continuation", 30, 0)
    assert set(TABLES["benchmark_tasks"].by_name) <= set(row)


def test_lm_eval_finds_the_tasks_and_reads_their_items_wherever_the_folder_lies(tmp_path: Path) -> None:
    build_task(CHOICE, PAGES, tmp_path / "a", seed=0)
    build_task(COST, PAGES, tmp_path / "a", seed=0)
    (tmp_path / "a").rename(tmp_path / "b")
    manager = TaskManager(include_path=str(tmp_path / "b"), include_defaults=False)
    assert manager.all_tasks == ["code_cost", "prose_choice"]
    loaded = manager.load(manager.all_tasks)["tasks"]
    assert list(loaded["prose_choice"].test_docs()) == lines(tmp_path / "b", CHOICE)
    assert list(loaded["code_cost"].test_docs()) == lines(tmp_path / "b", COST)


def test_files_depend_on_the_seed_but_not_on_the_order_of_pages_nor_on_the_folder(tmp_path: Path) -> None:
    first = build_task(CHOICE, PAGES, tmp_path / "a", seed=0)
    shuffled = PAGES.sample(fraction=1, shuffle=True, seed=3)
    assert build_task(CHOICE, shuffled, tmp_path / "b", seed=0) == first
    assert files(tmp_path / "a") == files(tmp_path / "b")
    other = build_task(CHOICE, PAGES, tmp_path / "c", seed=1)
    assert other["digest"] != first["digest"]
    assert lines(tmp_path / "c", CHOICE) != lines(tmp_path / "a", CHOICE)


def test_two_tasks_of_the_same_pages_ask_different_questions(tmp_path: Path) -> None:
    build_task(CHOICE, PAGES, tmp_path, seed=0)
    other = CHOICE.model_copy(update={"task": "another"})
    build_task(other, PAGES, tmp_path, seed=0)
    assert lines(tmp_path, CHOICE) != lines(tmp_path, other)


@pytest.mark.parametrize("split", ["training", "scoring"])
def test_no_item_shares_a_run_of_bytes_with_a_page_of_another_split(tmp_path: Path, split: str) -> None:
    held_out = PAGES.filter((pl.col("split") == "benchmark") & (pl.col("domain") == "a/prose"))
    # Half of each held-out page stands, within other text, in a page of the other split.
    leaked = [f"Before. {text[: len(text) // 2]} After." for text in held_out["text"]]
    pages = pl.concat(
        [held_out, pl.DataFrame([page("z/prose", index, text, split) for index, text in enumerate(leaked)])]
    )
    task = CHOICE.model_copy(update={"pages": "a/prose", "items": 20})
    row = build_task(task, pages, tmp_path, seed=0)
    assert row["dropped"] > 0
    for item in lines(tmp_path, task):
        texts = [item["context"] + item["choices"][item["label"]]]
        for data in (text.encode() for text in texts):
            runs = {data[begin : begin + RUN_BYTES] for begin in range(len(data) - RUN_BYTES + 1)}
            assert not any(run in text.encode() for run in runs for text in leaked)
    assert build_task(task, held_out, tmp_path, seed=0)["dropped"] == 0


def test_a_continuation_stands_in_one_item_only(tmp_path: Path) -> None:
    same = "All pages of this site begin with these very words, which is why nobody reads them any longer. "
    pages = pl.DataFrame([page("a/prose", index, same * 2 + prose(index)) for index in range(8)])
    task = CHOICE.model_copy(update={"items": 50})
    build_task(task, pages, tmp_path, seed=0)
    rights = [item["choices"][item["label"]] for item in lines(tmp_path, task)]
    assert len(set(rights)) == 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pages": "*/poems"},
            r"task 'prose_choice': pattern '\*/poems' matches no domain with benchmark pages; found 4",
        ),
        ({"items": 10_000}, r"task 'prose_choice': found \d+ items in 16 benchmark pages .*, expected 10000; hold out"),
        ({"continuation_bytes": 100_000}, r"task 'prose_choice': found 0 items in 16 benchmark pages"),
    ],
)
def test_too_little_text_is_an_error_with_what_was_found_and_needed(tmp_path: Path, change, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_task(CHOICE.model_copy(update=change), PAGES, tmp_path, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_choice_needs_a_page_for_each_option(tmp_path: Path) -> None:
    three = pl.DataFrame([page("a/prose", index, prose(index)) for index in range(3)])
    task = CHOICE.model_copy(update={"items": 10})
    with pytest.raises(InputError, match=r"found items of 3 benchmark pages .*, expected at least 4, one per option"):
        build_task(task, three, tmp_path, seed=0)
    assert build_task(task.model_copy(update={"form": "continuation"}), three, tmp_path, seed=0)["items"] == 10


def test_a_corpus_without_held_out_pages_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found 0 domains: none at all"):
        build_task(CHOICE, PAGES.filter(pl.col("split") != "benchmark"), tmp_path, seed=0)


SCRIPTS = st.text(st.sampled_from("ab .,\n漢字かな🙂éßжя"), max_size=400)


@given(SCRIPTS, st.integers(1, 60), st.integers(1, 40), st.integers(0, 100))
@settings(max_examples=300, deadline=None)
def test_windows_are_disjoint_pieces_of_whole_characters(text: str, before: int, after: int, start: int) -> None:
    data = text.encode()
    position = start
    for context, continuation in windows(data, context_bytes=before, continuation_bytes=after, start=start):
        assert len(continuation) == after
        assert before - 3 <= len(context) <= before
        context.decode()
        continuation.decode()
        found = data.find(context + continuation, position)
        assert found >= position
        position = found + len(context) + after


def test_every_stretch_of_ordinary_text_gives_windows() -> None:
    data = prose(1).encode()
    found = list(windows(data, context_bytes=100, continuation_bytes=40))
    assert len(found) >= len(data) // (100 + 40 + 64)
    assert all(continuation.startswith(b" ") for _, continuation in found)


def test_text_without_spaces_gives_windows_as_well() -> None:
    found = list(windows(("漢字" * 300).encode(), context_bytes=100, continuation_bytes=60))
    assert len(found) >= 8
    assert {len(context) for context, _ in found} == {99}  # 33 characters of three bytes
