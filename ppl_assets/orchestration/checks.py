"""Asset checks: what a person should be told next to an asset, though it does not stop the graph."""

import dagster as dg

from ppl_assets.orchestration.provenance import RECIPES
from ppl_assets.orchestration.status import partition_states
from ppl_assets.orchestration.step import WorkspaceResource


@dg.asset_check(asset="correlation_estimates", blocking=False)
def models_are_current(context: dg.AssetCheckExecutionContext, workspace: WorkspaceResource) -> dg.AssetCheckResult:
    """Whether every model's scores and losses are what the study asks for now; lists those that are not.

    Dagster's own staleness stops at a hundred partitions, and an estimate does without a model that failed: this says
    which models an estimate lacks, whatever their number.
    """
    states = partition_states(workspace.open(), context.instance)
    by_model = [each for each in states if RECIPES[each.asset].partitioned_by == "model"]
    behind = [each for each in by_model if each.state != "current"]
    listed = {
        state: sorted(f"{each.asset}[{each.partition}]" for each in behind if each.state == state)
        for state in ("failed", "missing", "stale")
    }
    return dg.AssetCheckResult(
        passed=not behind,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(by_model) - len(behind)} of {len(by_model)} partitions by model are current.",
        metadata={state: names for state, names in listed.items() if names},
    )
