"""Asset of the planning room: what to measure next."""

import dagster as dg

from ppl_assets.estimation.evidence import loss_evidence
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options
from ppl_assets.planning.candidates import effort_of, public_candidates
from ppl_assets.planning.next_measurement import measurement_rows


@dg.asset(
    **asset_options("next_measurements", group="publication", kinds={"numpy"}),
    deps=["domain_audits", "correlation_estimates"],
)
def next_measurements(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """Which public model, probe, pages or questions would steady each target's choice most per operation."""
    step = Step(context, workspace)
    opened = step.workspace
    rows = measurement_rows(
        opened.study,
        loss_evidence(opened.models(), opened.table("domains"), opened.by_model("domain_logliks")),
        opened.table("benchmark_errors"),
        opened.by_model("benchmark_scores"),
        opened.table("domain_audits"),
        candidates=public_candidates(opened.table("models")),
        effort=effort_of(opened.study, opened.models(), opened.table("chunks")),
    )
    return step.publish({"next_measurements": rows})
