"""Keep the state current by itself: one sensor per code location requests what is stale, one attempt per fingerprint.

Why a sensor and not Dagster's automation conditions: those follow materialization events, so that they request every
model again when the registry is materialized, stop telling what is stale at a hundred partitions, lose a change that
comes while an asset runs, and let one failed model block the fan-in. This compares fingerprints instead, at every tick
anew: what it missed at one tick it sees at the next.

The sensors start stopped, because what they request can cost money.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg

from ppl_assets.orchestration.attempts import ATTEMPT_TAG, attempt_key, in_progress, latest_attempts
from ppl_assets.orchestration.instance import fail_abandoned_runs, sync_partitions
from ppl_assets.orchestration.provenance import RECIPES, is_current, partitions
from ppl_assets.orchestration.step import WorkspaceResource
from ppl_assets.orchestration.whole_graph import upstream_of
from ppl_assets.orchestration.workspace import Workspace

_SECONDS_BETWEEN_TICKS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A run that would bring an asset's partition up to date, and may start now."""

    asset: str
    partition: str | None
    attempt: str
    after: str = ""
    """The run that computed the same before, where its result is gone."""


def due(workspace: Workspace, instance: dg.DagsterInstance) -> list[Due]:
    """What is stale, not being computed, not tried in vain, and waits for nothing, in the order of the graph.

    A partition waits for what is due or being computed upstream: for the same partition where both have it, for all
    partitions in a fan-in. A model whose attempt failed is one model less, and holds up only its own partitions.
    """
    stale = {
        (asset, part): attempt_key(workspace, asset, part)
        for asset, recipe in RECIPES.items()
        if recipe.applies(workspace) and not recipe.on_request
        for part in partitions(workspace, asset)
        if not is_current(workspace, asset, part)
    }
    tried, running = latest_attempts(instance, stale.values()), in_progress(instance)
    failed = {each for each, key in stale.items() if key in tried and tried[key].failed} - running
    waiting = (set(stale) | running) - failed
    return [
        Due(asset=asset, partition=part, attempt=key, after=tried[key].run_id if key in tried else "")
        for (asset, part), key in stale.items()
        if (asset, part) not in failed | running and not _held_up(asset, part, waiting, failed)
    ]


def _held_up(
    asset: str, part: str | None, waiting: Iterable[tuple[str, str | None]], failed: Iterable[tuple[str, str | None]]
) -> bool:
    upstream = upstream_of(asset)
    for other, other_part in waiting:
        if other in upstream and (part is None or other_part in (None, part) or not _share_partitions(asset, other)):
            return True
    return any(other in upstream and other_part in (None, part) for other, other_part in failed)


def _share_partitions(one: str, other: str) -> bool:
    return RECIPES[one].partitioned_by == RECIPES[other].partitioned_by


def stale_assets_sensor(name: str, assets: list[dg.AssetsDefinition]) -> dg.SensorDefinition:
    """The sensor that keeps the assets of one code location current."""
    own = {asset.key.to_user_string() for asset in assets}

    @dg.sensor(
        name=name,
        asset_selection=dg.AssetSelection.assets(*assets),
        minimum_interval_seconds=_SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Requests what is missing or stale, once per fingerprint, as soon as its inputs are current.",
    )
    def sensor(context: dg.SensorEvaluationContext, workspace: WorkspaceResource) -> dg.SensorResult:
        opened = workspace.open()
        fail_abandoned_runs(context.instance)
        sync_partitions(context.instance, opened)
        found = due(opened, context.instance)
        seconds = opened.settings.partition_seconds
        requests = [_request(each, seconds) for each in found if each.asset in own]
        elsewhere = "; another code location has work" if len(found) > len(requests) else ""
        skip = None if requests else f"Nothing is due in this code location{elsewhere}."
        return dg.SensorResult(run_requests=requests, skip_reason=skip)

    return sensor


def _request(due: Due, seconds: float) -> dg.RunRequest:
    return dg.RunRequest(
        asset_selection=[dg.AssetKey(due.asset)],
        partition_key=due.partition,
        run_key=f"{due.attempt}:{due.after}",
        # The daemon's run monitoring stops a run that takes longer, and the attempt counts as failed.
        tags={ATTEMPT_TAG: due.attempt, "dagster/max_runtime": f"{seconds:.0f}"},
    )
