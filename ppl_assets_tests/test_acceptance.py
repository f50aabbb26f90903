"""The demo as a newcomer runs it: `make demo` on the clone that the tests are in, twice, with its promises checked."""

import copy
import json
import os
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import get_args

import duckdb
import numpy as np
import polars as pl
import pytest

from ppl_assets.likelihood import load_model, score_texts
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.planning.forecast import EVALUATION, SCORING, TRAINING
from ppl_assets.planning.situation import plan_of
from ppl_assets.schema import TABLES
from ppl_assets.settings import Settings
from ppl_assets.study import embedded_text
from ppl_assets.study.schema import Arm
from ppl_assets.warehouse import Lake
from ppl_assets_tests.reader import follow

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def forecast(tmp_path_factory):
    """What `ppl-assets plan` finds before anything has run."""
    settings = Settings(state=tmp_path_factory.mktemp("plan") / "state", study="demo")
    planned = plan_of(Workspace(settings), "here")
    assert not settings.state.exists(), "a plan writes nothing"
    return planned


@pytest.fixture(scope="module")
def demo(forecast, tmp_path_factory):
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


def test_the_plan_was_within_forty_per_cent_of_what_the_ledger_says_of_the_run(forecast, demo):
    """In processor seconds of all that runs models: by the clock, either depends on what else the machine does."""
    state, _, _ = demo
    with duckdb.connect(str(state / "warehouse.duckdb"), read_only=True) as warehouse:
        rows = warehouse.sql("SELECT asset, device, sum(device_seconds) FROM cost_ledger GROUP BY ALL").fetchall()
    measured = {asset: seconds for asset, device, seconds in rows if device == "cpu"}
    parts = {asset: (forecast.seconds(asset), measured[asset]) for asset in (TRAINING, SCORING, EVALUATION)}
    assert forecast.seconds() == pytest.approx(sum(planned for planned, _ in parts.values()))
    assert forecast.seconds() / sum(paid for _, paid in parts.values()) == pytest.approx(1, abs=0.4), parts


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


def test_every_published_table_has_rows_but_what_was_not_imported_or_needed(demo):
    state, _, _ = demo
    with duckdb.connect(str(state / "warehouse.duckdb"), read_only=True) as warehouse:
        empty = [
            name
            for name, table in TABLES.items()
            if table.published and not warehouse.sql(f'SELECT 1 FROM "{name}" LIMIT 1').fetchall()
        ]
    # One kind of models, a pool that tells its targets apart, and a pilot of one size.
    unneeded = {"kind_estimates", "probe_proposals", "pilot_trend"}
    assert set(empty) <= {"imported_bpb", "imported_scores", "near_duplicates"} | unneeded


def test_two_arms_of_the_pilot_show_that_the_choice_pays(demo):
    state, result, _ = demo
    with duckdb.connect(str(state / "warehouse.duckdb"), read_only=True) as warehouse:
        rows = warehouse.sql(
            "SELECT target, arm, seeds, gain, ci_low, verdict FROM pilot_comparison "
            "WHERE role = 'uniform' AND measure = 'bpb'"
        ).fetchall()
    measured = {target: numbers for target, arm, *numbers in rows if arm == "ours"}
    assert set(measured) == {"code", "prose"}
    for target, (seeds, gain, _, _) in measured.items():
        assert seeds == 3
        assert gain > 0, rows
        assert f"pilot, {target}" in result.stdout
    # For code, four fifths of the pool, there is less to gain: its interval is held to in `make test-pilot`.
    assert measured["prose"][2] > 0, rows
    assert {arm for _, arm, *_, verdict in rows if verdict == "no runs"} == {"dsir", "quality_classifier"}


def test_bf16_turns_no_difference_between_two_models_of_the_pool(demo):
    """All models on every eleventh domain, in bf16 and in float32 with the same rounded weights."""
    state, _, _ = demo
    chunks = Lake(state / "lake").read("chunks")
    chunks = chunks.filter(pl.col("domain").is_in(chunks["domain"].unique().sort()[::11].to_list())).sort("domain")
    domains, text_domain = np.unique(chunks["domain"].to_numpy(), return_inverse=True)
    assert len(domains) >= 3

    def bpb(model, tokenizer):
        scores = score_texts(model, tokenizer, chunks["text"].to_list())
        return np.bincount(text_domain, scores.nll) / (np.log(2) * np.bincount(text_domain, scores.bytes))

    half_MD, full_MD = [], []
    for folder in sorted((state / "models").iterdir()):
        loaded = load_model(str(folder), dtype="bfloat16")
        half_MD.append(bpb(loaded.model, loaded.tokenizer))
        full_MD.append(bpb(copy.deepcopy(loaded.model).float(), loaded.tokenizer))
    half_MD, full_MD = np.array(half_MD), np.array(full_MD)
    assert np.sqrt(np.mean((half_MD / full_MD - 1) ** 2)) < 1e-4
    one, other = np.triu_indices(len(half_MD), 1)
    in_half, in_full = half_MD[one] - half_MD[other], full_MD[one] - full_MD[other]
    turned = np.sign(in_half) != np.sign(in_full)
    # Two scores, each off by up to four times 1e-4 of itself: below that a difference is none.
    assert np.all(np.abs(in_full[turned]) < 4e-4 * (full_MD[one] + full_MD[other])[turned])


def test_two_targets_combine_under_a_floor_that_binds_and_is_priced(demo, tmp_path):
    """The demo's study with every combination and a floor, on the state that the demo left: only the mixture is new."""
    state, _, _ = demo
    shutil.copytree(state, tmp_path / "state")
    study = tmp_path / "study.yaml"
    wanted = "combine: [mean, max_min, pareto]\n  bounds: [{attribute: group, label: prose, floor: 0.3}]"
    study.write_text(embedded_text("demo").replace("  keep: 0.1 ", f"  {wanted}\n  keep: 0.1 "))
    program = ROOT / ".venv" / "bin" / "ppl-assets"
    command = [program, "run", "--study", study, "--state", tmp_path / "state", "--select", "pretraining_mixture"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lake = Lake(tmp_path / "state" / "lake")
    mixture, prices = lake.read("pretraining_mixture"), lake.read("shadow_prices")
    kinds = dict(mixture.group_by("target").agg(pl.col("kind").first()).iter_rows())
    assert {"code", "prose", "mean", "max_min"} <= set(kinds)
    assert "pareto" in kinds.values()
    prose = pl.col("weight").filter(pl.col("domain").str.ends_with("/prose")).sum()
    on_prose = dict(mixture.group_by("target").agg(prose).iter_rows())
    assert on_prose["code"] == pytest.approx(0.3, abs=1e-9), "the floor binds where the target wants code"
    assert all(share >= 0.3 - 1e-9 for share in on_prose.values())
    floor = prices.filter((pl.col("target") == "code") & pl.col("rule").str.starts_with("floor of"))
    assert floor["price"].item() > 0


def test_the_page_filter_knows_sites_it_has_not_seen_and_every_arm_fills_the_budget(demo):
    state, _, _ = demo
    with duckdb.connect(str(state / "warehouse.duckdb"), read_only=True) as warehouse:
        metrics = {
            (target, metric): value
            for target, metric, value in warehouse.sql(
                "SELECT target, metric, value FROM filter_metrics WHERE slice = 'all'"
            ).fetchall()
        }
        arms = warehouse.sql(
            "SELECT s.target, s.arm, s.budget, s.tokens, s.pages, sum(p.tokens), count(*), max(p.tokens) "
            "FROM selections s JOIN selected_pages p USING (target, arm) GROUP BY ALL"
        ).fetchall()
        own = warehouse.sql(
            "SELECT target, sum(tokens) FILTER (domain LIKE '%/' || target) / sum(tokens) FROM selected_pages "
            "WHERE arm = 'ours' GROUP BY target"
        ).fetchall()
    for target in ("code", "prose"):
        assert metrics[target, "roc_auc"] > 0.9
        assert metrics[target, "precision_at_budget"] >= 0.8
    assert {(target, arm) for target, arm, *_ in arms} == {
        (target, arm) for target in ("code", "prose") for arm in get_args(Arm)
    }
    for target, arm, budget, tokens, pages, selected, count, largest in arms:
        assert (tokens, pages) == (selected, count), (target, arm)
        assert budget <= tokens < budget + largest, (target, arm)
    # The positive control, for pages: what is chosen is the target's own kind of text.
    assert dict(own) == {"code": pytest.approx(1, abs=0.05), "prose": pytest.approx(1, abs=0.05)}


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


@pytest.fixture(scope="module")
def tutorial(demo, tmp_path_factory):
    """The folder of a reader who has run the demo and then done what the tutorial says, and what came of it."""
    state, _, _ = demo
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(state, folder / ".ppl")
    return folder, follow(ROOT / "docs" / "tutorial.md", folder, skipped={"make demo"})


def test_the_tutorial_leads_from_the_demo_to_a_study_of_ones_own(tutorial):
    folder, result = tutorial
    assert result.returncode == 0, result.stderr[-3000:]
    mixture = json.loads((folder / "first" / "mixture.json").read_text())
    weights = {each["domain"]: each["weight"] for each in mixture["domains"]}
    assert sum(weights.values()) == pytest.approx(1)
    prose = sum(weight for domain, weight in weights.items() if domain.startswith("prose/"))
    assert prose >= 0.8, "the benchmark is prose"
    with duckdb.connect(str(folder / "first" / ".ppl" / "warehouse.duckdb"), read_only=True) as warehouse:
        assert warehouse.sql("SELECT count(*) FROM models").fetchall() == [(17,)]


def test_the_guide_on_models_goes_on_where_the_tutorial_ends(tutorial):
    folder, _ = tutorial
    result = follow(ROOT / "docs" / "add_models.md", folder, skipped=set())
    assert result.returncode == 0, result.stderr[-3000:]
    with duckdb.connect(str(folder / "first" / ".ppl" / "warehouse.duckdb"), read_only=True) as warehouse:
        used = {slug for (slug,) in warehouse.sql("SELECT slug FROM benchmark_errors").fetchall()}
    assert {"night-step24", "theirs-7b"} <= used
    assert "web-1k-step24" not in used
