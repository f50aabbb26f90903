"""What is current, stale or missing: per asset and partition, from fingerprints, without running anything."""

from dataclasses import dataclass
from typing import Literal

from ppl_assets.orchestration.provenance import RECIPES, is_current, partitions
from ppl_assets.orchestration.workspace import Workspace

State = Literal["current", "stale", "missing"]


@dataclass(frozen=True, slots=True)
class PartitionState:
    """State of one asset's partition; `partition` is None where the asset has none."""

    asset: str
    partition: str | None
    state: State


def partition_states(workspace: Workspace) -> list[PartitionState]:
    """The state of everything that the study asks for, in the order of the graph.

    What depends on something stale may turn out current after all, when the recomputation changes nothing: it is
    judged by what its inputs are now.
    """
    return [
        PartitionState(asset, partition, _state(workspace, asset, partition))
        for asset, recipe in RECIPES.items()
        if recipe.applies(workspace)
        for partition in partitions(workspace, asset)
    ]


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
