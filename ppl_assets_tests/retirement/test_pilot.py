"""What a retired domain leaves in a pilot: numbers, models and tokens go; the plans, which name no domain, stay."""

import pytest

from ppl_assets.retired import Retired
from ppl_assets.retirement.purge import purge_derived, purge_lake
from ppl_assets.schema import TABLES
from ppl_assets.settings import Settings
from ppl_assets.warehouse import Lake
from ppl_assets_tests.pilot.studies import domains_table, random_values, runs_table


@pytest.fixture
def settings(tmp_path) -> Settings:
    """A state with a pilot whose tables, but for one, name no domain at all."""
    settings = Settings(state=tmp_path / "state", study="demo")
    lake = Lake(settings.lake)
    runs = runs_table(random_values(("ours",)))
    losses = {("ours", target, "a.org"): runs["value"][:3].to_numpy() for target in ("code", "prose")}
    lake.write("pilot_runs", runs, partition="ours", fingerprint="f")
    lake.write("pilot_domains", domains_table(losses), partition="ours", fingerprint="f")
    curves = TABLES["pilot_curves"].polars_schema.to_frame()
    lake.write("pilot_curves", curves, partition="ours", fingerprint="f")
    for name in ("pilot_comparison", "pilot_ranks", "pilot_trend", "pilot_harm", "preregistration"):
        lake.write(name, TABLES[name].polars_schema.to_frame(), fingerprint="f")
    (settings.pilot / "ours" / "tokens").mkdir(parents=True)
    (settings.pilot / "ours" / "tokens" / "tokens.bin").write_bytes(b"ids of pages")
    return settings


def test_every_table_of_a_pilot_goes_with_any_domain_and_its_plans_stay(settings):
    purge_lake(Lake(settings.lake), Retired(("b.org",)), frozenset())
    left = {path.relative_to(settings.lake).parts[0] for path in settings.lake.rglob("part.parquet")}
    assert left == {"preregistration"}


def test_every_table_by_arm_or_of_a_pilot_is_known_to_the_purge(settings):
    """A table that is added to the room must be added to what goes."""
    purge_lake(Lake(settings.lake), Retired(("b.org",)), frozenset())
    ours = {name for name, table in TABLES.items() if name.startswith("pilot_") or table.partition == "arm"}
    written = {path.name for path in settings.lake.iterdir()} - {"preregistration"}
    assert written <= ours
    assert not [path for name in ours for path in (settings.lake / name).rglob("part.parquet")]


def test_models_checkpoints_and_tokens_of_a_pilot_are_deleted(settings):
    purge_derived(settings)
    assert not settings.pilot.exists()
