"""The command line, as a user meets it: exit codes, and sentences instead of tracebacks."""

import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

from ppl_assets.schema import TABLES
from ppl_assets_tests.studies import imported_tables, write_import_study


def ppl_assets(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ppl_assets", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def run_study(folder: Path) -> subprocess.CompletedProcess[str]:
    return ppl_assets("run", "--study", folder / "study.yaml", "--state", folder / "state", cwd=folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    write_import_study(folder)
    return folder, run_study(folder)


def test_a_run_prints_each_step_a_table_per_target_and_the_paths(finished):
    folder, result = finished
    assert result.returncode == 0, result.stderr
    assert "correlation_estimates: done in" in result.stdout
    assert "sums" in result.stdout
    assert "maths-" in result.stdout
    for name in ("warehouse.duckdb", "report.html"):
        assert (folder / "state" / name).is_file()
        assert str(folder / "state" / name) in result.stdout
    assert result.stderr == ""


def test_the_warehouse_holds_every_published_table_with_its_columns(finished):
    folder, _ = finished
    with duckdb.connect(str(folder / "state" / "warehouse.duckdb"), read_only=True) as connection:
        for table in TABLES.values():
            if table.published:
                columns = [row[0] for row in connection.sql(f'DESCRIBE "{table.name}"').fetchall()]
                assert columns == list(table.by_name), table.name
        sums = connection.sql(
            "SELECT target, sum(weight), max(weight - cap) FROM pretraining_mixture GROUP BY 1"
        ).fetchall()
    assert len(sums) == 2
    for _, total, excess in sums:
        assert total == pytest.approx(1, abs=1e-9)
        assert excess <= 0


def test_a_second_run_says_that_everything_is_current(finished):
    result = run_study(finished[0])
    assert result.returncode == 0
    assert "Everything is current." in result.stdout


def test_status_counts_what_is_current_by_asset(finished):
    folder, _ = finished
    result = ppl_assets("status", "--study", folder / "study.yaml", "--state", folder / "state", cwd=folder)
    assert result.returncode == 0
    assert "domain_logliks" in result.stdout
    models = ppl_assets("models", "list", "--study", folder / "study.yaml", "--state", folder / "state", cwd=folder)
    assert "model-07" in models.stdout


def test_explain_says_why_and_what_would_have_been(finished):
    folder, _ = finished
    where = ("--study", folder / "study.yaml", "--state", folder / "state")
    result = ppl_assets("explain", "maths-1", "--target", "sums", "--without-family", "family-0", *where, cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    for heading in ("domain maths-1", "estimate for sums", "models and tasks", "gate", "what would have been"):
        assert heading in result.stdout
    assert "without family family-0: " in result.stdout
    assert "with a cap of 2 epochs: " in result.stdout
    facts = json.loads(ppl_assets("explain", "maths-1", "--target", "sums", "--json", *where, cwd=folder).stdout)
    assert facts["decision"]["decision"] in ("selected", "partial", "not selected")
    assert facts["evidence"]["families"] == 6
    unknown = ppl_assets("explain", "maths-11", "--target", "sums", *where, cwd=folder)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "unknown, neither one of the 8 domains" in unknown.stderr


def test_init_writes_a_study_that_loads_and_never_overwrites_one(tmp_path):
    assert ppl_assets("init", "mine", cwd=tmp_path).returncode == 0
    assert (tmp_path / "mine" / "study.yaml").read_text().startswith("# A study that runs as it is")
    again = ppl_assets("init", "mine", cwd=tmp_path)
    assert (again.returncode, "exists already" in again.stderr) == (2, True)


def test_imported_files_take_part_in_the_next_run(tmp_path):
    study = write_import_study(tmp_path)
    study.write_text(study.read_text().replace("imports: {bpb: [bpb.csv], scores: [scores.csv]}\n", ""))
    for kind, name in (("bpb", "bpb.csv"), ("scores", "scores.csv")):
        taken = ppl_assets("import", kind, name, "--study", study, "--state", "state", cwd=tmp_path)
        assert taken.returncode == 0, taken.stderr
    result = run_study(tmp_path)
    assert result.returncode == 0, result.stderr
    assert "12 imported models" in result.stdout


def _break_scores(folder: Path) -> None:
    _, scores = imported_tables()
    scores[0, "value"] = 1.5
    scores.write_csv(folder / "scores.csv")


def _repeat_a_model(folder: Path) -> None:
    losses, _ = imported_tables()
    losses.vstack(losses.head(1)).write_csv(folder / "bpb.csv")


def _unknown_metric(folder: Path) -> None:
    study = folder / "study.yaml"
    study.write_text(study.read_text().replace("task: sums, metric: acc", "task: sums, metric: f1"))


def _unknown_task(folder: Path) -> None:
    study = folder / "study.yaml"
    study.write_text(study.read_text().replace("task: sums", "task: products"))


def _state_is_a_file(folder: Path) -> None:
    (folder / "state").write_text("in the way")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "study.yaml").unlink(), "study.yaml: no such study file"),
        (lambda folder: (folder / "bpb.csv").unlink(), "imports.bpb: .*bpb.csv: no such file"),
        (
            lambda folder: (folder / "bpb.csv").write_bytes(b"slug,domain,bpb\nm,\xff,1\n"),
            "line 2: byte .* is not UTF-8",
        ),
        (lambda folder: (folder / "bpb.csv").write_text("slug,domain\nm,d\n"), "column 'bpb' is missing"),
        (_break_scores, "found an accuracy of 1.5, expected 0 to 1"),
        (_repeat_a_model, "stands more than once|stands twice"),
        (_unknown_metric, "no model has metric 'f1' of task 'sums'; task 'sums' reports acc"),
        (_unknown_task, "no model has metric 'acc' of task 'products'; no scores of task 'products'"),
        (_state_is_a_file, "state.*cannot be written"),
    ],
)
def test_bad_input_ends_with_code_2_and_a_sentence(tmp_path, harm, message):
    write_import_study(tmp_path)
    harm(tmp_path)
    result = run_study(tmp_path)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert re.search(message, result.stderr), result.stderr


def export(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return ppl_assets("export", "--study", "study.yaml", "--state", "state", *arguments, cwd=folder)


def test_an_exported_mixture_is_that_of_the_table(finished):
    folder, _ = finished
    result = export(folder, "--target", "sums", "--format", "csv", "--out", "sums.csv", "--path-template", "x/{domain}")
    assert (result.returncode, result.stderr) == (0, "")
    exported = pl.read_csv(folder / "sums.csv")
    table = pl.read_parquet(folder / "state" / "lake" / "pretraining_mixture" / "part.parquet")
    weights = dict(
        table.filter((pl.col("target") == "sums") & (pl.col("weight") > 0)).select("domain", "weight").rows()
    )
    assert dict(exported.select("domain", "weight").rows()) == weights
    assert exported["path"].to_list() == [f"x/{domain}" for domain in exported["domain"]]
    assert f"sums.csv: {len(weights)} domains, study imported, target sums, mixture " in result.stdout


def test_an_export_that_is_behind_the_study_says_so(finished, tmp_path):
    folder, _ = finished
    study = tmp_path / "study.yaml"
    write_import_study(tmp_path)
    study.write_text(study.read_text().replace("keep: 0.25", "keep: 0.5"))
    arguments = ("--target", "sums", "--format", "yaml", "--out", tmp_path / "sums.yaml")
    result = ppl_assets("export", "--study", study, "--state", folder / "state", *arguments, cwd=folder)
    assert result.returncode == 0
    assert "the mixture is not up to date" in result.stderr
    assert "pretraining_mixture" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "sum", "--format", "csv", "--out", "x"), r"--target: found 'sum', .*did you mean 'sums'"),
        (("--target", "sums", "--format", "megatrn", "--out", "x"), r"--format: found 'megatrn', .*mean 'megatron'"),
        (("--target", "sums", "--format", "csv", "--out", "."), r"--out: \. is a folder, expected the path of a file"),
        (("--target", "sums", "--format", "csv", "--out", "no/x"), r"--out: no is no folder, expected one that exists"),
        (("--target", "sums", "--format", "pages", "--out", "x"), r"--format pages: no sampled page belongs"),
        (
            ("--target", "sums", "--format", "csv", "--out", "x", "--path-template", "data"),
            r"--path-template: found 'data', expected a path with \{domain\}",
        ),
        (
            ("--target", "sums", "--format", "csv", "--out", "x", "--state", "nothing"),
            r"nothing: holds no mixture yet; run `ppl-assets run` first",
        ),
    ],
)
def test_an_export_that_cannot_be_made_ends_with_code_2_and_a_sentence(finished, arguments, message):
    folder, _ = finished
    result = export(folder, *arguments)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False), result.stderr
    assert re.search(message, result.stderr), result.stderr
    assert not (folder / "x").exists()
