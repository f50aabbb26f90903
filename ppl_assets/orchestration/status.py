"""What is current, stale, failed or missing: per asset and partition, from fingerprints, without running anything."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import dagster as dg

from ppl_assets.orchestration.attempts import attempt_key, latest_attempts
from ppl_assets.orchestration.provenance import RECIPES, is_current, partitions
from ppl_assets.orchestration.workspace import Workspace

State = Literal["current", "stale", "failed", "missing"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True, slots=True)
class PartitionState:
    """State of one asset's partition; `partition` is None where the asset has none."""

    asset: str
    partition: str | None
    state: State


def partition_states(workspace: Workspace, instance: dg.DagsterInstance | None = None) -> list[PartitionState]:
    """The state of everything that the study asks for, in the order of the graph.

    What depends on something stale may turn out current after all, when the recomputation changes nothing: it is
    judged by what its inputs are now.

    Args:
        instance: where runs are recorded. With it, what is not current is `failed` where the latest attempt to compute
            it from the inputs of now has failed.
    """
    states = [
        PartitionState(asset, partition, _state(workspace, asset, partition))
        for asset, recipe in RECIPES.items()
        if recipe.applies(workspace)
        for partition in partitions(workspace, asset)
    ]
    return states if instance is None else _with_failures(states, workspace, instance)


def _with_failures(
    states: list[PartitionState], workspace: Workspace, instance: dg.DagsterInstance
) -> list[PartitionState]:
    keys = {each: attempt_key(workspace, each.asset, each.partition) for each in states if each.state != "current"}
    failed = {key for key, attempt in latest_attempts(instance, keys.values()).items() if attempt.failed}
    return [replace(each, state="failed") if keys.get(each) in failed else each for each in states]


def behind(workspace: Workspace, asset: str) -> list[str]:
    """Assets up to and with `asset`, in the order of the graph, that are not current."""
    before = list(RECIPES)[: list(RECIPES).index(asset) + 1]
    states = partition_states(workspace)
    return [name for name in before if any(each.asset == name and each.state != "current" for each in states)]


def _state(workspace: Workspace, asset: str, partition: str | None) -> State:
    if is_current(workspace, asset, partition):
        return "current"
    written = [workspace.lake.exists(table, part) for table, part in RECIPES[asset].parts(partition)]
    return "stale" if all(written) else "missing"
