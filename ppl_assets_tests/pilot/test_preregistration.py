"""The plan is frozen before anything runs, and a changed one is another pilot that says so."""

import json
from pathlib import Path

import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.pilot.preregistration import plan, plan_hash, register, registered
from ppl_assets.schema import TABLES
from ppl_assets.study import Study, load_study, parse_study
from ppl_assets_tests.pilot.studies import PILOT, STUDY, study

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


POLICY = "policy: [{action: deny, licenses: [closed], reason: legal, owner: legal, date: 2026-01-31}]\n"


def edited(before: str, after: str) -> Study:
    """The study with one part of its text replaced."""
    assert before in STUDY
    return parse_study(STUDY.replace(before, after) + PILOT, where="study", folder=Path())


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("filter: {", "filter: {labels: mixture, ", 'filter.labels: "better" -> "mixture"'),
        ("filter: {", "filter: {target_texts: {code: [x]}, ", 'filter.target_texts.code: null -> ["x"]'),
        ("keep: 0.2", "keep: 0.05", "mixture.keep: 0.2 -> 0.05"),
        ("mixture:", "estimation: {estimator: gumbel}\nmixture:", 'estimation.estimator: "gls" -> "gumbel"'),
        ("pages_per_domain: 30", "pages_per_domain: 20", "corpus.splits.training.pages_per_domain: 30 -> 20"),
        ("packages: [email]", "packages: [rich]", 'corpus.source.packages: ["email"] -> ["rich"]'),
        ("mixture:", "scoring: {max_context: 64}\nmixture:", "scoring.max_context: null -> 64"),
        ("mixture:", "imports: {bpb: [x.csv]}\nmixture:", 'imports.bpb: [] -> ["x.csv"]'),
        ("mixture:", POLICY + "mixture:", 'policy: [] -> [{"action":"deny"'),
        ("mixture:", "models: [{slug: a, family: f, source: a}]\nmixture:", 'models.a: null -> {"family":"f"'),
        ("mixture:", "seed: 1\nmixture:", "study_seed: 0 -> 1"),
    ],
)
def test_an_edit_of_what_decides_pages_is_a_second_row_that_says_it(before, after, says):
    changed = edited(before, after)
    rows = register(changed, first(), known_arms=["ours", "uniform"], now="2026-02-01T12:00:00Z")
    assert rows["number"].to_list() == [1, 2]
    row = registered(rows, changed)
    assert row["changes"].startswith(says)
    assert ";" not in row["changes"], "nothing else was changed"
    assert row["known_arms"] == "ours, uniform"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("filter: {", "filter: {with_text: true, "),
        ("mixture:", "prices: {gpu_hour: 2.0}\nmixture:"),
        ("mixture:", "alternatives: {pilot_runs: 9}\nmixture:"),
        ("mixture:", "benchmarks: {batch_size: 2}\nmixture:"),
        ("mixture:", "scoring: {token_budget: 4096}\nmixture:"),
        ("corpus:", "corpus:\n  expected: {domains: 2, tokens_per_page: 9}"),
    ],
)
def test_what_changes_no_page_and_no_result_is_not(before, after):
    assert plan_hash(plan(edited(before, after))) == plan_hash(plan(study()))


def test_the_reason_of_a_rule_is_not_part_of_the_plan():
    ruled = edited("mixture:", POLICY + "mixture:")
    reworded = edited("mixture:", POLICY.replace("reason: legal", "reason: a letter") + "mixture:")
    assert plan_hash(plan(ruled)) == plan_hash(plan(reworded))


def test_an_arm_or_a_target_outside_the_pilot_is_not_part_of_the_plan():
    alone = "pilot: {sizes: {tiny: {}}, arms: [ours, uniform], targets: [code]}\n"
    more = STUDY.replace("rules]", "rules, mean_loss]").replace("targets:\n", "targets:\n  other: OTHER\n")
    more = more.replace("OTHER", "{tasks: [{task: t, metric: m, kind: bpb}]}")
    assert plan(parse_study(more + alone, where="study", folder=Path())) == plan(study(alone))
    contrasted = STUDY.replace("code:\n    tasks", "code:\n    contrast_to: [prose]\n    tasks")
    frozen = plan(parse_study(contrasted + alone, where="study", folder=Path()))
    assert list(frozen["targets"]) == ["code", "prose"]


def test_a_checkpoint_that_appears_is_no_edit(tmp_path):
    (tmp_path / "run").mkdir()
    text = STUDY + PILOT + "checkpoints: [{path: run, run: mine, family: f}]\n"
    (tmp_path / "study.yaml").write_text(text)
    before = plan(load_study(str(tmp_path / "study.yaml")))
    (tmp_path / "run" / "step-1").mkdir()
    (tmp_path / "run" / "step-1" / "config.json").write_text("{}")
    after = load_study(str(tmp_path / "study.yaml"))
    assert [model.run for model in after.models] == ["mine"]
    assert plan(after) == before


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
