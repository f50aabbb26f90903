"""The command line, as a user meets it: exit codes, and sentences instead of tracebacks."""

import re
import subprocess
import sys
from pathlib import Path

import duckdb
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
