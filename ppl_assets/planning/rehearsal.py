"""A short measurement of this machine: the study's own pool trained, scored and evaluated for a moment.

For every tokenizer and architecture of the pool, the real functions run on a little: some steps of training, the median
of which counts, and two sizes of scoring and of evaluation, whose line says what a token and a question cost and what
comes before the first one (loading, self-test). All times are processor seconds of one thread: a busy machine lengthens
them less than it lengthens a wait. As many kinds as a run has workers are tried side by side, because cores that share
caches and memory slow each other. It takes about a minute of processor time for four kinds of model.
"""

import importlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import polars as pl

from ppl_assets.benchmarks.build import build_task
from ppl_assets.benchmarks.evaluate import evaluate
from ppl_assets.likelihood.loading import load_model
from ppl_assets.likelihood.tables import chunk_rows, self_test_sample
from ppl_assets.processes import end_with_parent
from ppl_assets.progress import Progress
from ppl_assets.study import Study
from ppl_assets.study.schema import ZooRun, checkpoint_slug
from ppl_assets.training.train import train_run

# Two sizes far enough apart for a slope; all small enough for seconds.
_STEPS, _CHUNKS, _ITEMS = 8, (24, 120), (4, 24)


@dataclass(frozen=True, slots=True)
class Line:
    """Processor seconds before the first unit, and for each."""

    fixed: float
    each: float

    def at(self, units: float) -> float:
        """Seconds of so many units."""
        return self.fixed + self.each * units

    @classmethod
    def through(cls, few: tuple[float, float], many: tuple[float, float]) -> "Line":
        """The line through two (units, seconds); noise cannot make it fall or begin below zero."""
        each = max((many[1] - few[1]) / (many[0] - few[0]), 0.0)
        return cls(max(few[1] - each * few[0], 0.0), each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """Of one kind of model: training by step, scoring by reference token, evaluation by question of the study's tasks;
    and tokens of the model to one reference token."""

    training: Line
    scoring: Line
    evaluation: Line
    tokens_per_reference: float


Kind = tuple[str, str]


def kind_of(run: ZooRun) -> Kind:
    """Runs of one tokenizer and architecture take alike."""
    return run.tokenizer, run.architecture


def rehearse(study: Study, pages: pl.DataFrame, chunks: pl.DataFrame, *, processes: int) -> dict[Kind, Rehearsed]:
    """What each kind of model of the study's pool takes on this machine.

    Args:
        pages, chunks: the sampled pages of all parts and the chunks of the scoring part.
        processes: how many kinds to try at once: as many as a run has workers.
    """
    assert study.zoo is not None
    first = {kind_of(run): run for run in reversed(study.zoo.runs)}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="ppl-plan-") as folder:
        for task in study.benchmarks.build:
            build_task(task, pages, Path(folder) / "tasks", seed=study.seed)
        of_kind = partial(_of_kind, study=study, pages=pages, chunks=chunks, folder=Path(folder))
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin) as pool:
            return dict(zip(first, pool.map(of_kind, first.values()), strict=True))


def _begin() -> None:
    """Make this process like a worker of a run; what it loads once should not count for its first kind."""
    import torch

    importlib.import_module("lm_eval.models.huggingface")
    end_with_parent()
    torch.set_num_threads(1)


def _of_kind(run: ZooRun, *, study: Study, pages: pl.DataFrame, chunks: pl.DataFrame, folder: Path) -> Rehearsed:
    training = _trained(study, run, pages, folder)
    model = folder / checkpoint_slug(run.run, _STEPS)
    parts = [chunks.gather_every(max(1, chunks.height // number)).head(number) for number in _CHUNKS]
    scored = [_scored(study, model, part, folder) for part in parts]
    sizes = [int(part["tokens"].sum()) for part in parts]
    scoring = Line.through(*((size, seconds) for size, (seconds, _) in zip(sizes, scored, strict=True)))
    names = [task.task for task in study.benchmarks.build]
    evaluation = Line(0.0, 0.0)
    if names:
        evaluation = Line.through(*((len(names) * items, _evaluated(study, model, folder, items)) for items in _ITEMS))
    return Rehearsed(
        training=training,
        scoring=scoring,
        evaluation=evaluation,
        tokens_per_reference=scored[-1][1] / sizes[-1],
    )


def _trained(study: Study, run: ZooRun, pages: pl.DataFrame, folder: Path) -> Line:
    """The median step, and what is not steps: tokenizer, batches, saving."""
    assert study.zoo is not None
    short = study.zoo.model_copy(update={"checkpoints": (_STEPS,)})
    times: list[float] = []

    def tick(_: Progress) -> None:
        times.append(time.process_time())

    total = _seconds(lambda: train_run(run, short, pages, folder, fingerprint="rehearsal", progress=tick))
    each = median(after - before for before, after in pairwise(times))
    return Line(max(total - _STEPS * each, 0.0), each)


def _scored(study: Study, model: Path, chunks: pl.DataFrame, folder: Path) -> tuple[float, int]:
    """Processor seconds, and tokens of the model."""
    tokens = 0

    def score() -> None:
        nonlocal tokens
        rows = chunk_rows(
            "rehearsal",
            chunks,
            load_model(model, dtype=study.scoring.dtype),
            sample=self_test_sample(chunks),
            scoring_digest="rehearsal",
            token_folder=folder / f"tokens-{model.name}-{chunks.height}",
            shard_folder=folder / f"shards-{model.name}-{chunks.height}",
            token_budget=study.scoring.token_budget,
            too_long=study.scoring.too_long,
            max_context=study.scoring.max_context,
            progress=_silent,
        )
        tokens = int(rows["tokens"].sum())

    return _seconds(score), tokens


def _evaluated(study: Study, model: Path, folder: Path, items: int) -> float:
    names = [task.task for task in study.benchmarks.build]
    return _seconds(
        lambda: evaluate(
            load_model(model),
            names,
            task_folders=[folder / "tasks"],
            limit=items,
            batch_size=study.benchmarks.batch_size,
        )
    )


def _seconds(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def _silent(progress: Progress) -> None:
    """A rehearsal shows no progress of its own."""
