"""Scores of one model on lm-eval tasks, through lm-eval's own evaluator.

Local task folders are read first and lm-eval's own tasks only where a name is not found there: listing those takes
seconds. Half-precision logits are reduced in float32, since a bfloat16 softmax errs by more than models differ.
Zero-shot unless a task says otherwise; seeds are fixed. Whether a task measures what its name says is not known here.
"""

import contextlib
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ppl_assets.errors import InputError, suggestion
from ppl_assets.likelihood.loading import LoadedModel, load_model
from ppl_assets.progress import Progress, Report
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import MetricKind, Target

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

    from ppl_assets.registry import ModelSource

_SEED = 1234
# For the few metrics whose error lm-eval bootstraps; its default of 100,000 takes minutes.
_BOOTSTRAP_ITERATIONS = 1000
_COLUMNS = {
    name: TABLES["benchmark_scores"].by_name[name].dtype for name in ("task", "metric", "value", "stderr", "samples")
}
# Lowest and highest value of a metric, by kind.
_RANGES: dict[MetricKind, tuple[float, float]] = {
    "accuracy": (0.0, 1.0),
    "error": (0.0, 1.0),
    "perplexity": (1.0, math.inf),
    "bpb": (0.0, math.inf),
}


def evaluate(
    source: "ModelSource | LoadedModel",
    tasks: Iterable[str],
    *,
    task_folders: Iterable[Path] = (),
    limit: int | None = None,
    batch_size: int = 16,
    progress: Report | None = None,
) -> pl.DataFrame:
    """All metrics that lm-eval reports for a model on `tasks`: one row per task and metric, in order of both.

    Columns: task, metric (as lm-eval names it; behind a comma the filter, where it is not ``none``), value, stderr
    (null where neither lm-eval nor a ratio estimate gives one) and samples.

    Args:
        source: where to load the model from, or the model and its tokenizer.
        tasks: names of lm-eval tasks or groups.
        task_folders: folders of task files, searched before lm-eval's own.
        limit: questions per task, at most.
        batch_size: texts per forward pass.

    Raises:
        InputError: the model cannot be loaded, a task does not exist, or its data cannot be read.
    """
    import lm_eval

    names = sorted(set(tasks))
    loaded = source if isinstance(source, LoadedModel) else load(source)
    with quiet():
        manager = task_manager(names, tuple(str(folder) for folder in task_folders))
        try:
            results = lm_eval.simple_evaluate(
                model=_wrapped(loaded, batch_size, progress),
                tasks=names,
                task_manager=manager,
                limit=limit,
                bootstrap_iters=_BOOTSTRAP_ITERATIONS,
                random_seed=_SEED,
                numpy_random_seed=_SEED,
                torch_random_seed=_SEED,
                fewshot_random_seed=_SEED,
            )
        # The model is loaded by now: what cannot be read are the tasks' files or data sets.
        except OSError as error:
            raise InputError(f"tasks {', '.join(names)}: their data cannot be read: {error}") from error
    return pl.DataFrame(list(_rows(results, names)), schema=_COLUMNS, orient="row").sort("task", "metric")


def check_scores(scores: pl.DataFrame, targets: Mapping[str, Target]) -> None:
    """Check the scores that targets use: reported at all, a number, and within the range of the metric's kind.

    A task without any row in `scores` is passed over: its scores may have been imported.

    Raises:
        InputError: a metric that its task does not report, or a value that is NaN or out of range; names target, task
            and metric.
    """
    values = {(task, metric): value for task, metric, value in scores.select("task", "metric", "value").iter_rows()}
    for target, spec in targets.items():
        for stated in spec.tasks:
            where = f"target {target!r}, task {stated.task!r}"
            reported = sorted(metric for task, metric in values if task == stated.task)
            if not reported:
                continue
            if stated.metric not in reported:
                hint = suggestion(stated.metric, reported)
                raise InputError(f"{where}: no metric {stated.metric!r}{hint}; the task reports {', '.join(reported)}")
            value, (low, high) = values[stated.task, stated.metric], _RANGES[stated.kind]
            if not low <= value <= high or math.isinf(value):
                raise InputError(
                    f"{where}: found {stated.metric} {value}, expected a number from {low:g} to {high:g} as "
                    f"kind {stated.kind!r} has"
                )


def ratio_stderr(pairs: list[tuple[float, int]]) -> float | None:
    """Standard error of sum(cost) / sum(size) over (cost, size) pairs; None below two pairs.

    Linearised ratio estimator over independent items (Cochran, Sampling Techniques, 1977, eq. 2.39): the items'
    residuals, cost - ratio x size, take the place of the items of a mean.
    """
    if len(pairs) < 2:
        return None
    costs, sizes = (math.fsum(column) for column in zip(*pairs, strict=True))
    squares = math.fsum((cost - costs / sizes * size) ** 2 for cost, size in pairs)
    return math.sqrt(squares * len(pairs) / (len(pairs) - 1)) / sizes


def load(source: "ModelSource") -> LoadedModel:
    """The model and its tokenizer, as they are evaluated."""
    return load_model(
        source.location,
        revision=source.revision,
        device=source.device,
        trust_remote_code=source.trust_remote_code,
    )


def task_manager(names: list[str], folders: tuple[str, ...]) -> "TaskManager":
    """An index of the local tasks; of lm-eval's own as well where a name is not local.

    Raises:
        InputError: a name that is in neither.
    """
    from lm_eval.tasks import TaskManager

    local = TaskManager(include_path=list(folders), include_defaults=False)
    if set(names) <= set(local.all_tasks):
        return local
    everything = _all_tasks(folders, tuple(local.all_tasks))
    unknown = [name for name in names if name not in everything.all_tasks]
    if unknown:
        some = ", ".join(local.all_tasks) or "none"
        raise InputError(
            f"task {unknown[0]!r} does not exist{suggestion(unknown[0], everything.all_tasks)}; local tasks are {some} "
            "(a task file that is not valid YAML is none), others are lm-eval's own"
        )
    return everything


@lru_cache(maxsize=1)
def _all_tasks(folders: tuple[str, ...], local: tuple[str, ...]) -> "TaskManager":
    """lm-eval's own tasks and the local ones, whose names are `local`; kept, since reading 13,000 files takes 10 s."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=list(folders), include_defaults=True)


def _wrapped(loaded: LoadedModel, batch_size: int, progress: Report | None) -> Any:
    """The model as lm-eval takes it: quiet, with log-softmax in float32, and telling how many requests are done."""
    import torch
    from lm_eval.models.huggingface import HFLM

    class Reporting(HFLM):
        total = 0
        done = 0
        began = 0.0

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
            return super().loglikelihood(requests, disable_tqdm=True)

        def _loglikelihood_tokens(self, requests: list[Any], disable_tqdm: bool = False, **options: Any) -> Any:
            self.total, self.done, self.began = len(requests), 0, time.monotonic()
            answers = super()._loglikelihood_tokens(requests, disable_tqdm=True, **options)
            self.tell(self.total - self.done)  # requests that differ in their last token alone shared a forward pass
            return answers

        def _model_call(self, inps: torch.Tensor, **options: Any) -> Any:
            logits = super()._model_call(inps, **options)
            self.tell(len(inps))
            return logits

        def tell(self, more: int) -> None:
            self.done += more
            if progress and self.total:
                seconds = time.monotonic() - self.began
                progress(Progress(done=self.done, total=self.total, unit="requests", seconds=seconds))

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
            return super().generate_until(requests, disable_tqdm=True)

        def get_model_info(self) -> dict[str, Any]:
            return {}  # lm-eval would ask the hub

    return Reporting(
        pretrained=loaded.model,
        tokenizer=loaded.tokenizer,
        batch_size=batch_size,
        softmax_dtype=torch.float32,
    )


def _rows(results: dict[str, Any], names: list[str]) -> Iterator[tuple[str, str, float, float | None, int | None]]:
    """Rows of the tasks and groups that were asked for."""
    for task in names:
        reported = results["results"].get(task, {})
        pairs = _pairs(results.get("samples", {}).get(task, []))
        for key, value in reported.items():
            metric, _, filtered = key.partition(",")
            if not filtered or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            stderr: Any = reported.get(f"{metric}_stderr,{filtered}")
            if not isinstance(stderr, int | float):
                stderr = ratio_stderr(pairs) if metric == "bits_per_byte" else None
            name = metric if filtered == "none" else f"{metric},{filtered}"
            yield task, name, float(value), stderr, reported.get("sample_len")


def _pairs(samples: list[dict[str, Any]]) -> list[tuple[float, int]]:
    """Bits and bytes of each sample of a task that reports bits per byte."""
    costs = [sample["bits_per_byte"] for sample in samples if "bits_per_byte" in sample]
    return [(-loglikelihood / math.log(2), size) for loglikelihood, size in costs]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No log lines, progress bars or report on the machine from lm-eval; everything as before afterwards."""
    import lm_eval.api.task
    import lm_eval.evaluator

    logger = logging.getLogger("lm_eval")
    with contextlib.ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        for module, name, value in (
            (lm_eval.api.task, "tqdm", partial(lm_eval.api.task.tqdm, disable=True)),
            # Asks pip, gcc and the driver for their versions: 3 s in each evaluation, for a report that nobody reads.
            (lm_eval.evaluator, "add_env_info", lambda storage: None),
            # Asks git about the current folder, and git complains on the terminal where that is no repository.
            (lm_eval.evaluator, "get_git_commit_hash", lambda: None),
        ):
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        yield
