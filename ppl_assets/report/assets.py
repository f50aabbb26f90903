"""Asset of the report room."""

import dagster as dg

from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options
from ppl_assets.report import render
from ppl_assets.report.tables import report_data
from ppl_assets.warehouse import replace_file


@dg.asset(**asset_options("selection_report", group="publication", kinds={"html"}), deps=["cost_ledger"])
def selection_report(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """One self-contained HTML file: the answer per target, the evidence, the risks, the provenance."""
    step = Step(context, workspace)
    path = step.workspace.settings.report_file
    replace_file(path, render(report_data(step.workspace)))
    return step.publish_file(path)
