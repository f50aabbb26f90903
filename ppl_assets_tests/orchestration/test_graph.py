"""The asset graph as Dagster sees it: complete, described, and light to load."""

import json
import re
import subprocess
import sys
from itertools import pairwise

import dagster as dg
import pytest

from ppl_assets import definitions, gpu_definitions
from ppl_assets.orchestration.provenance import RECIPES
from ppl_assets.orchestration.whole_graph import asset_levels, upstream_of, whole_graph
from ppl_assets_tests.reader import ROOT, blocks

GPU_ASSETS = {"model_zoo", "benchmark_scores", "chunk_logliks", "pilot_runs"}


def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in whole_graph().resolve_all_asset_specs()}


@pytest.mark.parametrize("location", [definitions, gpu_definitions], ids=["cpu", "gpu"])
def test_each_code_location_is_loadable_by_itself(location):
    dg.Definitions.validate_loadable(location.defs)


def test_loading_both_locations_imports_no_model_library():
    """Counted in modules, not seconds: what is not imported cannot be slow."""
    code = (
        "import sys, json, ppl_assets.definitions, ppl_assets.gpu_definitions;"
        "print(json.dumps([name for name in sys.modules if '.' not in name]))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    heavy = {"torch", "transformers", "lm_eval", "tokenizers", "datasets", "accelerate", "numba", "scipy", "duckdb"}
    assert not heavy & set(loaded)


def test_every_asset_has_a_recipe_and_every_recipe_an_asset():
    assert set(specs()) == set(RECIPES)


def test_the_diagram_in_the_readme_has_every_asset_and_only_real_dependencies():
    (diagram,) = (block.text for block in blocks(ROOT / "README.md") if block.language == "mermaid")
    plain = re.sub(r'\["[^"]*"\]', "", diagram)
    chains = [line.split(" --> ") for line in map(str.strip, plain.splitlines()) if "-->" in line]
    arrows = [arrow for chain in chains for arrow in pairwise(chain)]
    assert {asset for arrow in arrows for asset in arrow} == set(RECIPES)
    for upstream, asset in arrows:
        assert upstream in {dep.asset_key.to_user_string() for dep in specs()[asset].deps}, (upstream, asset)
    by_gpu = set(re.findall(r'(\w+)\["[^"]*gpu[^"]*"\]', diagram))
    assert by_gpu == GPU_ASSETS


def test_recipes_stand_in_the_order_of_the_graph():
    position = {asset: index for index, asset in enumerate(RECIPES)}
    for asset in RECIPES:
        assert all(position[upstream] < position[asset] for upstream in upstream_of(asset)), asset


def test_every_asset_is_described_owned_grouped_and_versioned():
    for name, spec in specs().items():
        assert spec.description, name
        assert spec.owners, name
        assert spec.kinds, name
        assert spec.code_version == RECIPES[name].code_version
        assert spec.group_name != "default", name
        if RECIPES[name].tables != ("artifacts",):
            schema = spec.metadata["dagster/column_schema"]
            assert all(column.description for column in schema.columns), name


def test_gpu_assets_are_in_the_gpu_location_and_wait_for_the_gpu_pool():
    assert {asset.key.to_user_string() for asset in gpu_definitions.ASSETS} == GPU_ASSETS
    assert all(asset.op.pool == "gpu" for asset in gpu_definitions.ASSETS)


def test_levels_hold_every_asset_once_and_after_what_it_depends_on():
    levels = asset_levels()
    assert sorted(asset for level in levels for asset in level) == sorted(RECIPES)
    done: set[str] = set()
    for level in levels:
        assert all(upstream_of(asset) <= done for asset in level)
        done |= set(level)
