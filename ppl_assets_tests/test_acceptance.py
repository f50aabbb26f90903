"""The demo as a newcomer runs it: `make demo` on the clone that the tests are in, twice, with its promises checked."""

import os
import resource
import subprocess
import time
from pathlib import Path

import duckdb
import pytest

from ppl_assets.schema import TABLES

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """State folder and output of `make demo`; killed processes and leftovers are the other tests' subject."""
    state = tmp_path_factory.mktemp("demo") / "state"
    began = time.monotonic()
    result = subprocess.run(
        ["make", "demo"], cwd=ROOT, capture_output=True, text=True, env=_environment(state), timeout=1800
    )
    return state, result, time.monotonic() - began


def _environment(state: Path) -> dict[str, str]:

    return {**os.environ, "PPL_STATE_DIR": str(state)}


def test_the_demo_ends_well_and_says_where_its_results_are(demo):
    state, result, seconds = demo
    assert result.returncode == 0, result.stderr
    assert str(state / "warehouse.duckdb") in result.stdout
    assert str(state / "report.html") in result.stdout
    # Ten minutes is the promise for a machine of two free cores; what is asserted is that nobody waits for ever.
    assert seconds < 1800
    peak_gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    assert peak_gigabytes < 4


def test_the_positive_control_holds_for_both_targets(demo):
    state, _, _ = demo
    with duckdb.connect(str(state / "warehouse.duckdb"), read_only=True) as warehouse:
        shares = warehouse.sql(
            "SELECT target, sum(weight) FILTER (domain LIKE '%/' || target), sum(weight), max(weight - cap) "
            "FROM pretraining_mixture GROUP BY target ORDER BY target"
        ).fetchall()
        verdicts = dict(warehouse.sql("SELECT target, verdict FROM signal_gate").fetchall())
        models, families = warehouse.sql("SELECT count(*), count(DISTINCT family) FROM models").fetchall()[0]
    assert [target for target, *_ in shares] == ["code", "prose"]
    for target, own, total, excess in shares:
        assert own >= 0.8, f"{target}: {own:.2f} of the weight is on its own kind of text"
        assert total == pytest.approx(1, abs=1e-9)
        assert excess <= 0
    assert verdicts == {"code": "select", "prose": "select"}
    assert models >= 24
    assert families >= 8


def test_every_published_table_has_rows_but_what_was_not_imported(demo):
    state, _, _ = demo
    with duckdb.connect(str(state / "warehouse.duckdb"), read_only=True) as warehouse:
        empty = [
            name
            for name, table in TABLES.items()
            if table.published and not warehouse.sql(f'SELECT 1 FROM "{name}" LIMIT 1').fetchall()
        ]
    assert set(empty) <= {"imported_bpb", "imported_scores", "near_duplicates"}


def test_the_study_that_init_writes_is_the_demo_and_finds_its_results_current(demo, tmp_path):
    """The README's `init` and `run`, on the state that the demo left: a study of its own would take as long again."""
    state, _, _ = demo
    program = ROOT / ".venv" / "bin" / "ppl-assets"
    subprocess.run([program, "init", "mine"], cwd=tmp_path, check=True, capture_output=True)
    command = [program, "run", "--study", "mine/study.yaml", "--state", state]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Everything is current." in result.stdout


def test_a_second_demo_finds_everything_current(demo):
    state, _, _ = demo
    again = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, env=_environment(state))
    assert again.returncode == 0
    assert "Everything is current." in again.stdout
