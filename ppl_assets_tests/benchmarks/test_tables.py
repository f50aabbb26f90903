"""Scores as rows: imported and evaluated ones of one task side by side, and what counts as a task folder's content."""

import py_compile

import polars as pl

from ppl_assets.benchmarks.tables import merged_scores, task_folder_digest
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.schema import TABLES
from ppl_assets_tests.orchestration.test_runner import run, settings_of
from ppl_assets_tests.scored_study import write_scored_study

SCHEMA = TABLES["benchmark_scores"].polars_schema
TWO_METRICS = """\
  two: {tasks: [{task: choice, metric: acc, kind: accuracy}, {task: choice, metric: acc_norm, kind: accuracy}]}
imports: {scores: [one.csv]}
"""


def test_an_imported_metric_counts_and_the_others_of_its_task_are_evaluated():
    imported = pl.DataFrame([("m", "t", "acc", 0.5, None, None)], schema=SCHEMA, orient="row")
    evaluated = pl.DataFrame(
        [("t", "acc", 0.7, 0.1, 9), ("t", "acc_norm", 0.8, 0.1, 9), ("u", "acc", 0.9, 0.1, 9)],
        schema={name: dtype for name, dtype in SCHEMA.items() if name != "slug"},
        orient="row",
    )
    rows = merged_scores(imported, "m", evaluated)
    assert rows.schema == SCHEMA
    assert rows.select("slug", "task", "metric", "value").rows() == [
        ("m", "t", "acc", 0.5),
        ("m", "t", "acc_norm", 0.8),
        ("m", "u", "acc", 0.9),
    ]


def test_a_model_with_one_metric_of_a_task_imported_is_evaluated_for_the_other(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    study = write_scored_study(tmp_path, ("alpha",), known=TWO_METRICS)
    built = "build: [{task: choice, pages: '*', form: choice, items: 6, context_bytes: 40}, "
    study.write_text(study.read_text().replace("build: [", built))
    (tmp_path / "one.csv").write_text("slug,task,metric,value\nalpha,choice,acc,0.125\n")
    settings = settings_of(study)
    outcomes = run(settings, select=["benchmark_scores"])
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    rows = Workspace(settings).lake.read("benchmark_scores", "alpha").filter(pl.col("task") == "choice")
    samples = dict(rows.select("metric", "samples").iter_rows())
    assert rows.filter(pl.col("metric") == "acc")["value"].to_list() == [0.125]
    assert (samples["acc"], samples["acc_norm"]) == (None, 6)


def test_importing_a_helper_is_no_change_of_a_task_folder_and_editing_it_is(tmp_path):
    helper, cache = tmp_path / "tasks" / "helpers" / "read.py", tmp_path / "digests"
    helper.parent.mkdir(parents=True)
    helper.write_text("items = 1\n")
    before = task_folder_digest(tmp_path / "tasks", cache)
    assert "__pycache__" in py_compile.compile(str(helper), doraise=True)
    assert task_folder_digest(tmp_path / "tasks", cache) == before
    helper.write_text("items = 22\n")
    assert task_folder_digest(tmp_path / "tasks", cache) != before
