"""The plan is frozen before anything runs, and a changed one is another pilot that says so."""

import json

import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.pilot.preregistration import plan, plan_hash, register, registered
from ppl_assets.schema import TABLES
from ppl_assets_tests.pilot.studies import study

NONE = TABLES["preregistration"].polars_schema.to_frame()
FEW = "pilot: {sizes: {tiny: {}}, seeds: [0, 1]}\n"


def first() -> pl.DataFrame:
    return register(study(), NONE, known_arms=[], now="2026-01-31T12:00:00Z")


def test_the_plan_holds_what_the_pilot_is_judged_by():
    frozen = plan(study())
    assert frozen["arms"] == ["ours", "uniform", "dsir", "rules"]
    assert frozen["seeds"] == [0, 1, 2]
    assert set(frozen["targets"]) == {"code", "prose"}
    assert frozen["decide_on"] == "error"
    assert frozen["hypothesis"]
    assert "90% interval" in frozen["decision_rule"]


@pytest.mark.parametrize(
    "change",
    [
        "hypothesis: another",
        "arms: [ours, uniform]",
        "seeds: [0, 1]",
        "targets: [code]",
        "decide_on: bpb",
        "minimum_gain: 1",
        "level: 0.95",
        "max_epochs: 2",
        "controls: [positive]",
    ],
)
def test_every_choice_is_part_of_the_hash(change):
    assert plan_hash(plan(study(f"pilot: {{sizes: {{tiny: {{}}}}, {change}}}\n"))) != plan_hash(plan(study()))


def test_how_a_machine_lays_a_run_out_is_not():
    laid_out = study("pilot: {sizes: {tiny: {device_sequences: 2, checkpoint_steps: 7}}}\n")
    assert plan_hash(plan(laid_out)) == plan_hash(plan(study()))


def test_the_hash_is_that_of_the_plan_in_the_table():
    row = registered(first(), study())
    assert plan_hash(json.loads(row["plan"])) == row["pilot"]
    assert (row["number"], row["supersedes"], row["changes"], row["known_arms"]) == (1, None, None, None)


def test_registering_the_same_plan_again_changes_nothing():
    again = register(study(), first(), known_arms=["ours"], now="2026-02-01T12:00:00Z")
    assert again.equals(first())


def test_a_changed_plan_is_a_new_pilot_that_says_what_changed_and_what_was_known():
    rows = register(study(FEW), first(), known_arms=["ours", "uniform"], now="2026-02-01T12:00:00Z")
    row = registered(rows, study(FEW))
    assert (row["number"], row["supersedes"], row["known_arms"]) == (2, 1, "ours, uniform")
    assert "seeds: [0,1,2] -> [0,1]" in row["changes"]
    with pytest.raises(InputError, match="is not registered"):
        registered(rows, study())
    back = register(study(), rows, known_arms=[], now="2026-02-02T12:00:00Z")
    assert registered(back, study())["number"] == 3


def test_nothing_runs_before_it_is_registered():
    with pytest.raises(InputError, match="is not registered"):
        registered(NONE, study())


def test_a_plan_that_was_edited_in_the_table_is_found():
    forged = first().with_columns(pl.col("plan").str.replace(r"\[0,1,2\]", "[0,1]"))
    with pytest.raises(InputError, match="not the one that was hashed"):
        registered(forged, study())
