"""Assets of the benchmarks room: the tasks that a study builds, and what each model scores."""

import dagster as dg
import polars as pl

from ppl_assets.benchmarks.build import build_task
from ppl_assets.benchmarks.evaluate import check_scores, evaluate, load
from ppl_assets.benchmarks.tables import imported_score_rows, merged_scores, tasks_to_run
from ppl_assets.hardware import claimed_device
from ppl_assets.likelihood.cost import counted_tokens, forward_flops_per_token
from ppl_assets.orchestration.executors import GPU_OPTIONS
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options
from ppl_assets.orchestration.workspace import SPLITS
from ppl_assets.registry import model_source, only_imported


@dg.asset(**asset_options("benchmark_tasks", group="benchmarks", kinds={"yaml"}), deps=["corpus_pages"])
def benchmark_tasks(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """The lm-eval tasks built from held-out pages: YAML and JSONL, free of sampled training and scoring text."""
    step = Step(context, workspace)
    study, settings = step.workspace.study, step.workspace.settings
    pages = step.workspace.lake.read_partitions("pages", SPLITS)
    rows = [build_task(task, pages, settings.tasks, seed=study.seed) for task in study.benchmarks.build]
    dropped = {row["task"]: row["dropped"] for row in rows}
    return step.publish({"benchmark_tasks": pl.DataFrame(rows)}, metadata={"items dropped for an overlap": dropped})


@dg.asset(
    **asset_options("benchmark_scores", group="benchmarks", kinds={"torch", "polars"}),
    deps=["benchmark_tasks", "model_registry", "imported_scores"],
    **GPU_OPTIONS,
)
def benchmark_scores(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """What one model scores on every task of the targets, imported or evaluated by lm-eval."""
    step = Step(context, workspace)
    opened, study = step.workspace, step.workspace.study
    imported = imported_score_rows(opened.lake, step.key)
    tasks = tasks_to_run(study.targets.values(), imported)
    if not tasks or only_imported(study, step.key):
        return step.publish({"benchmark_scores": imported})
    with claimed_device() as device:
        scores, tokens, flops_per_token = _evaluated(step, tasks, device=device)
    check_scores(scores, study.targets)
    return step.publish(
        {"benchmark_scores": merged_scores(imported, step.key, scores)},
        tokens=tokens,
        flops=flops_per_token * tokens,
        device=device,
    )


def _evaluated(step: Step, tasks: list[str], *, device: str) -> tuple[pl.DataFrame, int, float]:
    """Scores, the tokens that passed through the model and the FLOPs of each; the model has left the device then."""
    opened, study = step.workspace, step.workspace.study
    loaded = load(model_source(study, opened.settings.models, opened.model(step.key), device=device))
    with counted_tokens(loaded.model) as passed:
        scores = evaluate(
            loaded,
            tasks,
            task_folders=[opened.settings.tasks, *(study.path(folder) for folder in study.benchmarks.task_folders)],
            limit=study.benchmarks.limit,
            batch_size=study.benchmarks.batch_size,
            progress=step.report(),
        )
    return scores, passed.tokens, forward_flops_per_token(loaded.model)
