"""Assets of the estimation room: errors per target, estimates, the gate's verdict, and its check on held-out
families."""

import dagster as dg
import polars as pl

from ppl_assets.benchmarks.overlap import overlapping
from ppl_assets.benchmarks.task_texts import task_texts
from ppl_assets.estimation.advice import candidate_rows, pair_rows, proposal_rows
from ppl_assets.estimation.audit import audit_rows
from ppl_assets.estimation.evidence import Evidence, errors_by_target, loss_evidence, with_pages
from ppl_assets.estimation.tables import estimate_rows, gate_rows, kind_rows, prediction_rows
from ppl_assets.likelihood.page_losses import NO_PAGES, page_losses, scoring_texts
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options
from ppl_assets.orchestration.workspace import Workspace

BY_MODEL = dg.AllPartitionMapping()


@dg.asset(
    **asset_options("benchmark_errors", group="estimation", kinds={"polars"}),
    deps=[
        dg.AssetDep("benchmark_scores", partition_mapping=BY_MODEL),
        dg.AssetDep("domain_logliks", partition_mapping=BY_MODEL),
        "model_registry",
        "domain_catalog",
    ],
)
def benchmark_errors(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """One error per model and target, lower is better: the standardised mean over the target's tasks."""
    step = Step(context, workspace)
    opened, study = step.workspace, step.workspace.study
    missing = sorted({*opened.missing("benchmark_scores"), *opened.missing("domain_logliks")})
    errors = errors_by_target(
        study.targets,
        opened.by_model("benchmark_scores"),
        _losses(opened),
        minimum_models=study.estimation.minimum_models,
        missing=missing,
    )
    return step.publish({"benchmark_errors": errors}, metadata={"models missing": missing})


@dg.asset(
    **asset_options("correlation_estimates", group="estimation", kinds={"numpy"}),
    deps=[
        "benchmark_errors",
        dg.AssetDep("domain_logliks", partition_mapping=BY_MODEL),
        dg.AssetDep("chunk_logliks", partition_mapping=BY_MODEL),
        "corpus_chunks",
        "model_registry",
        "domain_catalog",
    ],
)
def correlation_estimates(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """How a domain's loss goes with a target's error over models, with interval, q-value and stability; by kind of
    models too."""
    step = Step(context, workspace)
    opened, study = step.workspace, step.workspace.study
    evidence, errors = _losses(opened), opened.table("benchmark_errors")
    pages = page_losses(opened.lake, opened.present("chunk_logliks")) if study.corpus else NO_PAGES
    rows = estimate_rows(
        with_pages(evidence, pages),
        errors,
        targets=study.targets,
        minimum_models=study.estimation.minimum_models,
        estimator=study.estimation.estimator,
        seed=study.seed,
        replicates=study.estimation.replicates,
        level=study.estimation.level,
        top_share=study.mixture.top_share,
    )
    kinds = kind_rows(
        evidence,
        errors,
        targets=study.targets,
        minimum_models=study.estimation.minimum_models,
        estimator=study.estimation.estimator,
        top_share=study.mixture.top_share,
    )
    return step.publish({"correlation_estimates": rows, "kind_estimates": kinds})


@dg.asset(
    **asset_options("signal_gate", group="estimation", kinds={"numpy"}),
    deps=["benchmark_errors", dg.AssetDep("domain_logliks", partition_mapping=BY_MODEL), "model_registry"],
)
def signal_gate(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """Whether the evidence carries a choice at all: select, weak or abstain, with the reason; which targets it cannot
    tell apart, and which models would help."""
    step = Step(context, workspace)
    opened, study = step.workspace, step.workspace.study
    evidence, errors, targets = _losses(opened), opened.table("benchmark_errors"), [*study.targets]
    minimum_models = study.estimation.minimum_models
    tables = {
        "signal_gate": gate_rows(evidence, errors, targets=targets, minimum_models=minimum_models, seed=study.seed),
        "target_pairs": pair_rows(errors, targets),
        "candidate_gains": candidate_rows(evidence, errors, targets),
        "probe_proposals": proposal_rows(evidence, errors, targets, zoo=study.zoo, seed=study.seed),
    }
    return step.publish(
        tables,
        metadata={
            "verdicts": dict(tables["signal_gate"].select("target", "verdict").iter_rows()),
            "targets not separable": tables["target_pairs"].filter(~pl.col("separable")).height,
            "probes to train": dg.MetadataValue.text("".join(tables["probe_proposals"]["snippet"])),
        },
    )


@dg.asset(
    **asset_options("rank_prediction", group="estimation", kinds={"numpy"}),
    deps=["benchmark_errors", dg.AssetDep("domain_logliks", partition_mapping=BY_MODEL), "model_registry"],
)
def rank_prediction(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """Each model's rank predicted without its family, next to what mean loss, size and one factor predict."""
    step = Step(context, workspace)
    opened, study = step.workspace, step.workspace.study
    rows = prediction_rows(
        _losses(opened),
        opened.table("benchmark_errors"),
        targets=study.targets,
        minimum_models=study.estimation.minimum_models,
        top_share=study.mixture.top_share,
    )
    return step.publish({"rank_prediction": rows})


@dg.asset(
    **asset_options("domain_audits", group="estimation", kinds={"numpy"}),
    deps=["benchmark_errors", "corpus_chunks", "benchmark_tasks", "correlation_estimates"],
)
def domain_audits(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """What each estimate hangs on: one family of models, single pages, pages that share text with the benchmarks."""
    step = Step(context, workspace)
    opened, study = step.workspace, step.workspace.study
    pages = page_losses(opened.lake, opened.present("chunk_logliks")) if study.corpus else NO_PAGES
    texts = scoring_texts(opened.lake, pages)
    folders = [opened.settings.tasks, *(study.path(folder) for folder in study.benchmarks.task_folders)]
    overlaps, not_read = {}, {}
    for name, target in study.targets.items():
        shown, not_read[name] = task_texts([task.task for task in target.tasks], folders) if texts else ([], [])
        overlaps[name] = overlapping(texts, shown)
    rows = audit_rows(
        _losses(opened),
        opened.table("benchmark_errors"),
        opened.by_model("benchmark_scores"),
        targets=study.targets,
        minimum_models=study.estimation.minimum_models,
        estimator=study.estimation.estimator,
        pages=pages,
        overlaps=overlaps,
        not_read=not_read,
    )
    return step.publish({"domain_audits": rows}, metadata={"tasks not read": not_read})


def _losses(opened: Workspace) -> Evidence:
    return loss_evidence(opened.models(), opened.table("domains"), opened.by_model("domain_logliks"))
