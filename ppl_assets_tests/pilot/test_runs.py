"""All runs of an arm without Dagster: trained, measured by lm-eval and on held-out text, kept when something fails."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from ppl_assets.benchmarks import build_task
from ppl_assets.errors import InputError
from ppl_assets.likelihood import load_model, score_texts
from ppl_assets.meter import Clock, total_time
from ppl_assets.pilot.runs import ArmPages, Setting, grouped, run_arm
from ppl_assets.schema import TABLES
from ppl_assets.study import parse_study
from ppl_assets.training.tokenizer import train_tokenizer
from ppl_assets.warehouse import Lake
from ppl_assets_tests.pilot.worlds import WORDS, digest_of, page_texts

STUDY = """\
name: piloted
corpus:
  source: {kind: python_packages, packages: [email]}
  splits:
    training: {share: 0.5, pages_per_domain: 9}
    scoring: {share: 0.25, pages_per_domain: 2}
    benchmark: {share: 0.25, pages_per_domain: 9}
benchmarks: {build: [{task: cost, pages: "*", form: continuation, items: 6, context_bytes: 40, continuation_bytes: 20}]}
targets:
  code: {tasks: [{task: cost, metric: bits_per_byte, kind: bpb}]}
  prose: {tasks: [{task: cost, metric: bits_per_byte, kind: bpb}]}
mixture: {keep: 0.2}
filter: {arms: [ours, uniform]}
pilot:
  seeds: [0, 1]
  vocabulary: 300
  max_epochs: 4
  sizes:
    small:
      architecture: {hidden_size: 16, layers: 1, heads: 2, intermediate_size: 32}
      context_tokens: 64
      batch_sequences: 2
      budget_tokens: 640
"""


def pages_of(texts: dict[str, str], *targets: str) -> ArmPages:
    def read() -> Iterator[tuple[str, str]]:
        return iter(texts.items())

    return ArmPages(targets=targets, digest=digest_of(texts), texts=read)


def benchmark_pages() -> pl.DataFrame:
    """Pages that no arm trains on."""
    texts = [" ".join(WORDS[(number + 3 * step) % len(WORDS)] for step in range(60)) for number in range(8)]
    rows = [
        {
            "page_id": f"b{number}",
            "domain": "d/code",
            "split": "benchmark",
            "bytes": len(text),
            "tokens": 9,
            "text": text,
        }
        for number, text in enumerate(texts)
    ]
    return pl.DataFrame(rows, schema=TABLES["pages"].polars_schema)


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> Setting:
    folder, study = tmp_path_factory.mktemp("setting"), parse_study(STUDY, where="study", folder=Path())
    for task in study.benchmarks.build:
        build_task(task, benchmark_pages(), folder / "tasks", seed=0)
    chunks = [
        {"chunk_id": f"{name}#0", "page_id": name, "domain": f"{name}.org", "position": 0, "bytes": 9, "tokens": 9}
        | {"text": " ".join(reversed(WORDS[index:]))}
        for index, name in enumerate(("x", "y"))
    ]
    return Setting(
        study=study,
        pilot="plan",
        chunks=pl.DataFrame(chunks, schema=TABLES["chunks"].polars_schema),
        tokenizer=train_tokenizer(page_texts(100).values(), 300),
        task_folders=[folder / "tasks"],
        token_folder=folder / "token_ids",
        identity="measured on this",
    )


@pytest.fixture(scope="module")
def arm(setting, tmp_path_factory):
    """An arm that chooses the same pages for both targets, after its runs."""
    folder = tmp_path_factory.mktemp("arm")
    pages = grouped([pages_of(page_texts(60), "code"), pages_of(page_texts(60), "prose")])
    return folder, pages, run_arm("uniform", pages, setting, folder)


@pytest.fixture(scope="module")
def tables(arm) -> dict[str, pl.DataFrame]:
    """What its runs gave."""
    return arm[2].tables


def test_targets_with_the_same_pages_share_their_runs(arm, tables):
    folder, pages, _ = arm
    assert [each.targets for each in pages] == [("code", "prose")]
    assert len(list(folder.glob("small/*/seed-*"))) == 2
    runs = tables["pilot_runs"]
    assert runs["run"].n_unique() == 2
    code, prose = (runs.filter(target=target).drop("target") for target in ("code", "prose"))
    assert code.sort("seed", "metric").equals(prose.sort("seed", "metric"))


def test_the_tables_hold_tasks_held_out_text_and_training_of_every_seed(tables, tmp_path):
    lake = Lake(tmp_path)
    for name, rows in tables.items():
        assert rows.height
        lake.write(name, rows, partition="uniform", fingerprint="f")
    metrics = {"cost/bits_per_byte", "held_out/bpb"}
    metrics |= {f"training/{name}" for name in ("loss", "params", "tokens", "unique_tokens", "epochs", "flops")}
    for seed in (0, 1):
        assert set(tables["pilot_runs"].filter(seed=seed)["metric"]) == metrics
    assert set(tables["pilot_runs"]["pilot"]) == {"plan"}


def test_held_out_losses_are_those_of_the_likelihood_room(arm, tables, setting):
    folder, pages, _ = arm
    loaded = load_model(folder / "small" / pages[0].digest / "seed-1" / "model")
    scores = score_texts(loaded.model, loaded.tokenizer, setting.chunks["text"].to_list())
    own = tables["pilot_domains"].filter(seed=1, target="code").sort("domain")
    assert own["nll"].to_list() == pytest.approx(scores.nll.tolist(), rel=1e-6)
    assert own["bpb"].to_list() == pytest.approx(scores.bpb.tolist(), rel=1e-6)
    overall = tables["pilot_runs"].filter(seed=1, target="code", metric="held_out/bpb")["value"].item()
    assert overall == pytest.approx((own["bpb"] * own["bytes"]).sum() / own["bytes"].sum())


def test_what_is_finished_is_neither_trained_nor_measured_nor_read_again(arm, setting, monkeypatch):
    folder, pages, first = arm
    for place in ("measuring.evaluate", "training._trainer"):
        monkeypatch.setattr(f"ppl_assets.pilot.{place}", lambda *_, **__: pytest.fail("done again"))

    def unread() -> Iterator[tuple[str, str]]:
        pytest.fail("read again")

    again = run_arm("uniform", [replace(pages[0], texts=unread)], setting, folder)
    # What a curve says of throughput is stored with it, so that this is the same too.
    assert all(again.tables[name].equals(first.tables[name]) for name in first.tables)


def test_what_an_arm_took_is_that_of_all_its_runs_whenever_they_ran(setting, tmp_path):
    """Two seeds, one step each: the second step is told what both of them took, the third one what they took again."""
    pages, clocks, told = [pages_of(page_texts(60), "code")], [], []
    for study in (only_seed(setting, 0), setting.study, setting.study):
        clock = Clock()
        told.append(run_arm("uniform", pages, replace(setting, study=study), tmp_path).spent)
        clocks.append(clock.read("cpu"))
    for name in ("seconds", "device_seconds"):
        assert 0 < told[0][name] <= clocks[0][name]
        assert told[0][name] < told[1][name] <= clocks[0][name] + clocks[1][name]
    assert told[2] == told[1]


def test_measuring_anew_counts_as_measured_last_and_training_as_it_was(setting, tmp_path):
    one, pages = replace(setting, study=only_seed(setting, 0)), [pages_of(page_texts(60), "code")]
    run_arm("uniform", pages, one, tmp_path)
    (record,) = tmp_path.glob("small/*/seed-0/model/checkpoint.json")
    trained = total_time(json.loads(record.read_text())["row"]["spent"])["seconds"]
    again = run_arm("uniform", pages, replace(one, identity="measured on that"), tmp_path).spent["seconds"]
    (record,) = tmp_path.glob("small/*/seed-0/measured.json")
    assert again == pytest.approx(trained + json.loads(record.read_text())["measured"]["spent"]["seconds"])


def test_runs_of_pages_that_an_arm_no_longer_chooses_are_deleted(arm, setting, tmp_path):
    one = replace(setting, study=only_seed(setting, 0))
    run_arm("uniform", [pages_of(page_texts(60), "code")], one, tmp_path)
    run_arm("uniform", [pages_of(page_texts(50), "code")], one, tmp_path)
    assert [path.parent.name for path in tmp_path.glob("small/*/seed-*")] == [digest_of(page_texts(50))]


def only_seed(setting: Setting, seed: int):
    assert setting.study.pilot is not None
    return setting.study.model_copy(update={"pilot": setting.study.pilot.model_copy(update={"seeds": (seed,)})})


def test_an_arm_without_pages_or_with_too_few_fails_before_any_training(setting, tmp_path, monkeypatch):
    monkeypatch.setattr("ppl_assets.pilot.training._trainer", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(InputError, match="pilot, arm 'ours', target code, size 'small', seed 0: found no page"):
        run_arm("ours", [pages_of(page_texts(60), "prose"), pages_of({}, "code")], setting, tmp_path)
    with pytest.raises(InputError, match=r"expected at least 160 for a budget of 640 at 4 epochs"):
        run_arm("ours", [pages_of(page_texts(2), "code")], setting, tmp_path)


def test_a_task_that_fails_is_named_and_the_trained_model_is_kept(setting, tmp_path):
    one = replace(setting, study=only_seed(setting, 0), task_folders=[tmp_path / "tasks"])
    task = setting.study.benchmarks.build[0]
    build_task(task, benchmark_pages(), tmp_path / "tasks", seed=0)
    helpers = tmp_path / "tasks" / "local_items.py"
    sound = helpers.read_text()
    helpers.write_text(sound + "\n\ndef continuation_cost(doc, results):\n    raise KeyError('gone')\n")
    with pytest.raises(InputError, match="target 'code': a task among cost failed: KeyError: 'gone'"):
        run_arm("ours", [pages_of(page_texts(60), "code")], one, tmp_path / "arm")
    (weights,) = (tmp_path / "arm").glob("small/*/seed-0/model/model.safetensors")
    trained = weights.stat().st_mtime_ns
    with pytest.raises(InputError, match="task 'cost' does not exist"):
        run_arm("ours", [pages_of(page_texts(60), "code")], replace(one, task_folders=[]), tmp_path / "arm")
    run_arm(
        "ours", [pages_of(page_texts(60), "code")], replace(one, task_folders=setting.task_folders), tmp_path / "arm"
    )
    assert weights.stat().st_mtime_ns == trained


@pytest.mark.parametrize("field", ["tokenizer: gone", "sizes: {small: {start: gone}}"])
def test_a_model_folder_that_is_not_there_is_named(setting, tmp_path, field):
    text = STUDY.replace("  vocabulary: 300\n", f"  {field}\n") if "tokenizer" in field else None
    text = text or STUDY[: STUDY.index("  sizes:")] + f"  {field}\n"
    stated = replace(setting, study=parse_study(text, where="study", folder=tmp_path))
    with pytest.raises(InputError, match="gone: no such folder"):
        run_arm("ours", [pages_of(page_texts(60), "code")], stated, tmp_path)


def test_progress_counts_the_tokens_of_all_runs(setting, tmp_path):
    seen = []
    run_arm("ours", [pages_of(page_texts(60), "code")], setting, tmp_path, progress=seen.append)
    assert seen[-1].done == seen[-1].total == 2 * 640
    assert [each.done for each in seen] == sorted(each.done for each in seen)
