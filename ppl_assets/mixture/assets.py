"""Asset of the mixture room."""

import dagster as dg

from ppl_assets.mixture.tables import mixture_rows
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options


@dg.asset(
    **asset_options("pretraining_mixture", group="mixture", kinds={"numpy"}),
    deps=["correlation_estimates", "signal_gate", "domain_catalog"],
)
def pretraining_mixture(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """How much of each domain to train on for each target, within what the pool holds, and why."""
    step = Step(context, workspace)
    opened, study = step.workspace, step.workspace.study
    rows = mixture_rows(
        study.mixture,
        targets=study.targets,
        estimator=study.estimation.estimator,
        gate=study.estimation.gate,
        domains=opened.table("domains"),
        estimates=opened.table("correlation_estimates"),
        verdicts=opened.table("signal_gate"),
    )
    return step.publish({"pretraining_mixture": rows})
