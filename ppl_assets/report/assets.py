"""Assets of the report room."""

import base64

import dagster as dg

from ppl_assets.export import write_certificates
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options
from ppl_assets.report import png_plots, render
from ppl_assets.report.certificates import certificate_rows
from ppl_assets.report.tables import content_provenance, grounds, report_data
from ppl_assets.warehouse import replace_file


@dg.asset(
    **asset_options("selection_certificates", group="publication", kinds={"json"}),
    deps=["pretraining_mixture", "domain_audits", "rank_prediction"],
)
def selection_certificates(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """All that is known of each domain that a mixture trains on: a row and a JSON file per domain."""
    step = Step(context, workspace)
    opened = step.workspace
    rows = certificate_rows(report_data(opened), grounds(opened), content_provenance(opened))
    write_certificates(opened.settings.certificates, rows)
    return step.publish({"certificates": rows}, metadata={"path": dg.MetadataValue.path(opened.settings.certificates)})


@dg.asset(**asset_options("selection_report", group="publication", kinds={"html"}), deps=["cost_ledger"])
def selection_report(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """One self-contained HTML file: the answer per target, the evidence, the risks, the provenance."""
    step = Step(context, workspace)
    path, data = step.workspace.settings.report_file, report_data(step.workspace)
    replace_file(path, render(data))
    shown = {name: dg.MetadataValue.md(_inline(name, png)) for name, png in png_plots(data).items()}
    return step.publish_file(path, metadata=shown)


def _inline(name: str, png: bytes) -> str:
    """A picture as the web UI shows it, without a file of its own."""
    return f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"
