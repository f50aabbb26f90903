"""Assets of the pilot room; they run where somebody asks for them."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl

from ppl_assets.filtering.assets import selection_tables
from ppl_assets.hardware import claimed_device
from ppl_assets.orchestration.executors import GPU_OPTIONS
from ppl_assets.orchestration.provenance import pilot_measures
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options, preview
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.pilot.arms import Source, arm_pages, control_pages, drawn_pool
from ppl_assets.pilot.comparison import CONTROLS, Cost, comparison_tables, decisions
from ppl_assets.pilot.pictures import curve_picture
from ppl_assets.pilot.preregistration import register, registered
from ppl_assets.pilot.runs import ArmPages, Setting, grouped, run_arm
from ppl_assets.pilot.tokenizer import trained_tokenizer, trains_tokenizer

_SECONDS_PER_HOUR = 3600


@dg.asset(**asset_options("preregistration", group="pilot", kinds={"json"}))
def preregistration(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """The plan of the pilot, frozen and hashed before any arm runs; a changed plan is a new pilot that says so."""
    step = Step(context, workspace)
    opened = step.workspace
    rows = register(
        opened.study,
        opened.table("preregistration"),
        known_arms=opened.piloted("pilot_runs"),
        now=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    latest = registered(rows, opened.study)
    described = {name: latest[name] for name in ("pilot", "hypothesis", "decision_rule", "changes", "known_arms")}
    return step.publish(
        {"preregistration": rows}, metadata={name: value for name, value in described.items() if value is not None}
    )


@dg.asset(
    **asset_options("pilot_runs", group="pilot", kinds={"torch", "transformers"}),
    deps=["preregistration", "selected_pages", "corpus_chunks", "benchmark_tasks"],
    **GPU_OPTIONS,
)
def pilot_runs(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """What models trained on one arm's pages score: on the target's tasks, and on every domain's scoring pages."""
    step = Step(context, workspace)
    opened = step.workspace
    plan = registered(opened.table("preregistration"), opened.study)
    pages, setting = grouped(_pages(opened, step.key)), _setting(opened, plan["pilot"])
    with claimed_device() as device:
        found = run_arm(
            step.key, pages, setting, opened.settings.pilot / step.key, device=device, progress=step.report()
        )
    runs, curves = found.tables["pilot_runs"], found.tables["pilot_curves"]
    last = curves.filter(pl.col("step") == pl.max("step").over("size"))
    return step.publish(
        found.tables,
        metadata={
            "training loss": float(str(last["loss"].mean())),
            "tokens per second": float(str(curves["tokens_per_second"].mean() or 0)),
            "epochs": float(str(runs.filter(metric="training/epochs")["value"].max())),
            "loss and throughput": dg.MetadataValue.md(curve_picture(curves)),
        },
        tokens=round(_total(runs, "training/tokens")),
        flops=_total(runs, "training/flops"),
        device=device,
        spent=found.spent,
    )


@dg.asset(
    **asset_options("pilot_comparison", group="pilot", kinds={"scipy"}),
    deps=[dg.AssetDep("pilot_runs", partition_mapping=dg.AllPartitionMapping())],
)
def pilot_comparison(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """Every arm against uniform and the best baseline, paired by seed; what the preregistered rule says of ours."""
    step = Step(context, workspace)
    opened = step.workspace
    plan = registered(opened.table("preregistration"), opened.study)
    current = pl.col("pilot") == plan["pilot"]
    runs = opened.lake.read_partitions("pilot_runs", opened.piloted("pilot_runs")).filter(current)
    arms = sorted(set(runs["arm"]))
    tables = comparison_tables(
        opened.study,
        runs,
        opened.lake.read_partitions("pilot_domains", arms),
        pilot=plan["pilot"],
        costs={arm: _cost(opened, arm, runs) for arm in arms},
    )
    missing = sorted(set(opened.study.pilot_arms) - set(arms))
    return step.publish(
        tables,
        metadata={
            "decisions": decisions(tables["pilot_comparison"]),
            "pilot": f"number {plan['number']}" + (f", after a change of {plan['changes']}" if plan["changes"] else ""),
            "arms without runs": missing,
            "ranks": dg.MetadataValue.md(preview(tables["pilot_ranks"])),
            "trend over sizes": dg.MetadataValue.md(preview(tables["pilot_trend"])),
        },
    )


def _source(workspace: Workspace) -> Source:
    return Source(
        study=workspace.study,
        lake=workspace.lake,
        digests=workspace.settings.digests,
        retired=workspace.retired,
    )


def _pages(workspace: Workspace, arm: str) -> list[ArmPages]:
    """What an arm trains on."""
    source = _source(workspace)
    if arm not in CONTROLS:
        return arm_pages(source, arm, workspace.table("selections"))
    tables = selection_tables(workspace)
    with drawn_pool(source, tables, workspace.settings.pilot) as (pool, budget):
        return control_pages(source, arm, pool, budget=budget, tables=tables)


def _tokenizer(workspace: Workspace) -> Any:
    """What the pilot's models read with, where the pilot trains it."""
    pilot, folder = workspace.study.pilot, workspace.settings.pilot
    assert pilot is not None, "the asset applies to studies with a pilot"
    if not trains_tokenizer(pilot):
        return None
    source = _source(workspace)
    with drawn_pool(source, selection_tables(workspace), folder) as (pool, _):
        return trained_tokenizer(source, pool, folder / "tokenizer.json")


def _setting(workspace: Workspace, pilot: str) -> Setting:
    settings, study = workspace.settings, workspace.study
    return Setting(
        study=study,
        pilot=pilot,
        chunks=workspace.lake.read("chunks"),
        tokenizer=_tokenizer(workspace),
        task_folders=[settings.tasks, *(study.path(folder) for folder in study.benchmarks.task_folders)],
        token_folder=settings.tokens,
        identity=pilot_measures(workspace),
    )


def _total(runs: pl.DataFrame, metric: str) -> float:
    """Sum of a training's number over the runs of an arm."""
    return float(runs.filter(metric=metric).unique("run")["value"].sum())


def _cost(workspace: Workspace, arm: str, runs: pl.DataFrame) -> Cost:
    """What one run of an arm took, in the mean over its runs."""
    footer = workspace.lake.footer("pilot_runs", arm)
    assert footer is not None, f"{arm} has runs"
    seconds = float(footer.cost["seconds"]) / runs.filter(arm=arm)["run"].n_unique()
    per_hour = workspace.study.prices.per_hour(str(footer.cost["device"]))
    return Cost(seconds=seconds, money=seconds / _SECONDS_PER_HOUR * per_hour if per_hour else None)
