"""Scores are those of a plain loop over logits; what a target cannot use is refused by name."""

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import lm_eval.api.task
import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from ppl_assets.benchmarks.build import build_task
from ppl_assets.benchmarks.evaluate import check_scores, evaluate, ratio_stderr
from ppl_assets.errors import InputError
from ppl_assets.likelihood.loading import LoadedModel, load_model
from ppl_assets.progress import Progress
from ppl_assets.registry import ModelSource
from ppl_assets.study.schema import BuiltTask, Target, TargetTask
from ppl_assets.training.tokenizer import END_OF_TEXT
from ppl_assets_tests.benchmarks.pages import corpus
from ppl_assets_tests.training.zoos import train

PAGES = corpus()
BUILT = (
    BuiltTask(task="code_choice", pages="*/code", form="choice", items=25, context_bytes=80, continuation_bytes=30),
    BuiltTask(task="prose_choice", pages="*/prose", form="choice", items=25, context_bytes=80, continuation_bytes=30),
    BuiltTask(
        task="prose_cost", pages="*/prose", form="continuation", items=25, context_bytes=80, continuation_bytes=30
    ),
)
NAMES = [built.task for built in BUILT]
METRICS = ("acc", "acc_bytes", "acc_mutual_info", "acc_norm")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    for built in BUILT:
        build_task(built, PAGES, folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt a little: at chance, most mistakes would go unnoticed."""
    destination = tmp_path_factory.mktemp("models")
    train(destination, pages=PAGES, checkpoints=(60,), batch_sequences=8, sequence_tokens=48)
    return destination / "tiny-step60"


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(folder)


@pytest.fixture(scope="module")
def scores(loaded: LoadedModel, tasks: Path) -> pl.DataFrame:
    return evaluate(loaded, NAMES, task_folders=[tasks])


def value(scores: pl.DataFrame, task: str, metric: str, column: str = "value") -> float:
    return scores.row(by_predicate=(pl.col("task") == task) & (pl.col("metric") == metric), named=True)[column]


def log_likelihood(loaded: LoadedModel, context: str, continuation: str) -> float:
    """Nats, one text at a time, token by token."""
    before = [0] if context == END_OF_TEXT else loaded.tokenizer.encode(context)
    after = loaded.tokenizer.encode(continuation)
    ids = torch.tensor([before + after])
    # No token straddles the two.
    assert context == END_OF_TEXT or before + after == loaded.tokenizer.encode(context + continuation)
    with torch.no_grad():
        logits = loaded.model(ids).logits[0].double()
    total = 0.0
    for place in range(len(before), ids.shape[1]):
        row = logits[place - 1]
        total += float(row[ids[0, place]] - torch.logsumexp(row, 0))
    return total


def items(tasks: Path, task: str) -> Iterator[dict]:
    return (json.loads(line) for line in (tasks / f"{task}.jsonl").read_text().splitlines())


@pytest.mark.parametrize("task", ["code_choice", "prose_choice"])
def test_accuracy_is_the_share_of_items_whose_right_option_is_the_likeliest(loaded, tasks, scores, task) -> None:
    right = []
    for item in items(tasks, task):
        likelihoods = [log_likelihood(loaded, item["context"], choice) for choice in item["choices"]]
        best, second = sorted(likelihoods)[-1], sorted(likelihoods)[-2]
        assert best - second > 1e-3  # no tie that rounding could decide
        right.append(likelihoods[item["label"]] == best)
    accuracy = value(scores, task, "acc")
    assert accuracy == np.mean(right)
    assert 0 < accuracy < 1
    # Options have the same length in bytes and characters: normalising by it changes nothing.
    assert accuracy == value(scores, task, "acc_bytes") == value(scores, task, "acc_norm")
    assert value(scores, task, "acc", "stderr") == pytest.approx(np.std(right, ddof=1) / math.sqrt(25))
    assert value(scores, task, "acc", "samples") == 25


@pytest.mark.parametrize("task", ["code_choice", "prose_choice"])
def test_by_mutual_information_the_option_that_the_context_helps_most_is_chosen(loaded, tasks, scores, task) -> None:
    right = []
    for item in items(tasks, task):
        gains = [
            log_likelihood(loaded, item["context"], choice) - log_likelihood(loaded, END_OF_TEXT, choice)
            for choice in item["choices"]
        ]
        right.append(max(gains) == gains[item["label"]])
    assert value(scores, task, "acc_mutual_info") == np.mean(right)


def test_bits_per_byte_is_the_cost_of_the_continuations_over_their_bytes(loaded, tasks, scores) -> None:
    costs = [
        -log_likelihood(loaded, item["context"], item["continuation"]) / math.log(2)
        for item in items(tasks, "prose_cost")
    ]
    # float32 logits of batched and single forward passes differ by some 1e-6.
    assert value(scores, "prose_cost", "bits_per_byte") == pytest.approx(sum(costs) / (25 * 30), rel=1e-5)
    # All continuations have 30 bytes, so the ratio is a mean.
    expected = np.std(np.array(costs) / 30, ddof=1) / math.sqrt(25)
    assert value(scores, "prose_cost", "bits_per_byte", "stderr") == pytest.approx(expected, rel=1e-4)


def test_rows_are_ordered_and_name_metrics_without_a_filter(scores: pl.DataFrame) -> None:
    assert scores.select("task", "metric").rows() == [
        *((task, metric) for task in ("code_choice", "prose_choice") for metric in METRICS),
        ("prose_cost", "bits_per_byte"),
    ]


def test_scores_do_not_depend_on_batch_size_order_or_chance(loaded, tasks, scores) -> None:
    torch.manual_seed(99)
    assert_frame_equal(evaluate(loaded, reversed(NAMES), task_folders=[tasks], batch_size=3), scores, rel_tol=1e-5)
    torch.manual_seed(1)
    assert_frame_equal(evaluate(loaded, NAMES, task_folders=[tasks]), scores, check_exact=True)


def test_a_model_may_be_named_instead_of_loaded(folder, tasks, scores) -> None:
    source = ModelSource(location=str(folder), revision=None, device="cpu", trust_remote_code=False)
    assert_frame_equal(evaluate(source, NAMES, task_folders=[tasks]), scores, check_exact=True)
    with pytest.raises(InputError, match=r"model '\./absent'"):
        evaluate(ModelSource(location="./absent", revision=None, device="cpu", trust_remote_code=False), NAMES)


def test_half_precision_logits_are_summed_in_float32(folder, tasks, scores) -> None:
    half = evaluate(load_model(folder, dtype="bfloat16"), ["prose_cost"], task_folders=[tasks])
    # bfloat16 weights and activations cost some 1e-3; a bfloat16 log-softmax would round each token's cost to 3 digits.
    exact = value(scores, "prose_cost", "bits_per_byte")
    assert value(half, "prose_cost", "bits_per_byte") == pytest.approx(exact, rel=5e-3)


def test_a_limit_takes_the_first_questions(loaded, tasks) -> None:
    limited = evaluate(loaded, ["prose_cost"], task_folders=[tasks], limit=7)
    costs = [
        -log_likelihood(loaded, item["context"], item["continuation"]) / math.log(2)
        for item in items(tasks, "prose_cost")
    ]
    assert value(limited, "prose_cost", "bits_per_byte") == pytest.approx(sum(costs[:7]) / (7 * 30), rel=1e-5)
    assert limited["samples"].to_list() == [7]


def test_evaluation_is_quiet_reports_progress_and_leaves_lm_eval_as_it_was(loaded, tasks, capfd) -> None:
    bars, level = lm_eval.api.task.tqdm, logging.getLogger("lm_eval").level
    seen: list[Progress] = []
    evaluate(loaded, ["code_choice"], task_folders=[tasks], progress=seen.append)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert [report.total for report in seen] == [200] * len(seen)  # each option with and without the context
    done = [report.done for report in seen]
    assert done == sorted(done)
    assert done[-1] == 200
    assert lm_eval.api.task.tqdm is bars
    assert logging.getLogger("lm_eval").level == level


def test_an_unknown_task_is_an_error_that_suggests_one(loaded, tasks) -> None:
    with pytest.raises(InputError, match=r"task 'prose_choise' does not exist \(did you mean 'prose_choice'\?\)"):
        evaluate(loaded, ["prose_choise", "code_choice"], task_folders=[tasks])


def test_a_public_task_is_found_where_no_local_one_has_its_name(loaded, tasks) -> None:
    # Its data set is not on this machine and the hub is off: what matters is that the name was found.
    with pytest.raises(InputError, match="tasks arc_easy: their data cannot be read"):
        evaluate(loaded, ["arc_easy"], task_folders=[tasks], limit=1)


def test_a_task_without_its_items_is_an_error(loaded, tmp_path: Path) -> None:
    build_task(BUILT[0], PAGES, tmp_path, seed=0)
    (tmp_path / "code_choice.jsonl").unlink()
    with pytest.raises(InputError, match=r"tasks code_choice: their data cannot be read: .*code_choice.jsonl"):
        evaluate(loaded, ["code_choice"], task_folders=[tmp_path])


def target(metric: str, kind: str, task: str = "t") -> dict[str, Target]:
    return {"goal": Target(tasks=(TargetTask(task=task, metric=metric, kind=kind),))}


def table(**metrics: float) -> pl.DataFrame:
    return pl.DataFrame([{"task": "t", "metric": metric, "value": float(value)} for metric, value in metrics.items()])


def test_a_metric_that_the_task_does_not_report_is_an_error_that_lists_those_it_does() -> None:
    message = (
        r"target 'goal', task 't': no metric 'acc_nrm' \(did you mean 'acc_norm'\?\); the task reports acc, acc_norm"
    )
    with pytest.raises(InputError, match=message):
        check_scores(table(acc=0.5, acc_norm=0.5), target("acc_nrm", "accuracy"))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("accuracy", (0, 0.5, 1), (-0.01, 1.01, math.nan, math.inf)),
        ("error", (0, 0.5, 1), (-0.01, 1.01, math.nan)),
        ("perplexity", (1, 5e5), (0.99, -3, math.nan, math.inf)),
        ("bpb", (0, 12.5), (-0.01, math.nan, math.inf)),
    ],
)
def test_a_value_outside_the_range_of_its_kind_is_an_error(kind: str, good, bad) -> None:
    for number in good:
        check_scores(table(m=number), target("m", kind))
    for number in bad:
        with pytest.raises(InputError, match=rf"target 'goal', task 't': found m {number:g}.*kind '{kind}'"):
            check_scores(table(m=number), target("m", kind))


def test_a_task_that_was_not_evaluated_and_a_metric_that_no_target_uses_are_passed_over() -> None:
    check_scores(table(acc=0.5, other=math.nan), target("acc", "accuracy") | target("acc", "accuracy", "imported"))


def test_the_standard_error_of_a_ratio_is_that_of_a_mean_for_equal_sizes_and_near_the_bootstrap_otherwise() -> None:
    rng = np.random.default_rng(0)
    costs, sizes = rng.normal(100, 20, 400), rng.integers(30, 90, 400)
    assert ratio_stderr([(cost, 50) for cost in costs]) == pytest.approx(costs.std(ddof=1) / 50 / 20)
    pairs = [(cost * size / 50, int(size)) for cost, size in zip(costs, sizes, strict=True)]
    draws = rng.integers(400, size=(4000, 400))
    resampled = (np.array(pairs)[draws, 0].sum(1) / np.array(pairs)[draws, 1].sum(1)).std()
    # The bootstrap's own error with 4,000 draws is 1 / sqrt(8000), 1.1 %; three of these.
    assert ratio_stderr(pairs) == pytest.approx(resampled, rel=0.035)
    assert ratio_stderr(pairs[:1]) is None
