"""Both code locations as one graph, for the command line: what a run in process needs to see whole."""

from functools import cache

import dagster as dg


@cache
def whole_graph() -> dg.Definitions:
    """All assets and jobs under the in-process executor."""
    from ppl_assets import definitions, gpu_definitions
    from ppl_assets.orchestration.step import WorkspaceResource

    return dg.Definitions(
        assets=[*definitions.ASSETS, *gpu_definitions.ASSETS],
        asset_checks=definitions.CHECKS,
        jobs=definitions.JOBS,
        resources={"workspace": WorkspaceResource()},
        executor=dg.in_process_executor,
    )


def asset_levels() -> list[list[str]]:
    """Assets in topological order; those of one level do not depend on each other."""
    graph = whole_graph().resolve_asset_graph()
    return [sorted(key.to_user_string() for key in level) for level in graph.toposorted_asset_keys_by_level]


def upstream_of(asset: str) -> set[str]:
    """Every asset that `asset` is computed from, directly or not."""
    graph = whole_graph().resolve_asset_graph()
    return {key.to_user_string() for key in graph.get_ancestor_asset_keys(dg.AssetKey(asset))} - {asset}
