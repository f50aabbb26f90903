"""Training is a plain loop done fast: same gradients, same weights for the same seed, nothing half done."""

import math
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from transformers import AutoModelForCausalLM, AutoTokenizer

from ppl_assets.errors import InputError
from ppl_assets.schema import TABLES
from ppl_assets.training import train as module
from ppl_assets.training.checkpoints import read_record
from ppl_assets.training.data import batches
from ppl_assets.training.tokenizer import train_tokenizer
from ppl_assets.training.train import build_model, learning_rate_factor
from ppl_assets.warehouse import remove_abandoned
from ppl_assets_tests.training.zoos import PAGES, RUN, page_row, tiny_zoo, train


def weights(destination: Path, slug: str) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(destination / slug).state_dict()


def test_each_checkpoint_is_a_row_and_a_folder_that_transformers_loads(tmp_path: Path) -> None:
    rows, steps = train(tmp_path)
    assert rows.schema == TABLES["zoo_checkpoints"].polars_schema
    assert rows["slug"].to_list() == ["tiny-step2", "tiny-step5"]
    assert rows["tokens"].to_list() == [2 * 4 * 24, 5 * 4 * 24]
    assert steps == [1, 2, 3, 4, 5]
    for row in rows.iter_rows(named=True):
        folder = tmp_path / row["slug"]
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        assert model.num_parameters() == row["params"]
        assert model.dtype == torch.float32
        assert len(tokenizer) == model.config.vocab_size == 300
        assert model.config.max_position_embeddings == tokenizer.model_max_length == 256
        assert model.config._attn_implementation == "sdpa"
        assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    first, last = (weights(tmp_path, slug) for slug in rows["slug"])
    assert not torch.equal(first["lm_head.weight"], last["lm_head.weight"])


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_the_weights_are_those_of_a_plain_training_loop(tmp_path: Path, kind: str, monkeypatch) -> None:
    run = RUN.model_copy(update={"architecture": kind})
    monkeypatch.setattr(module, "_HEAD_ROWS", 40)  # 96 targets a step: two full blocks and a part of one
    rows, _ = train(tmp_path, run=run)

    zoo, training = tiny_zoo(run), PAGES.filter(pl.col("split") == "training")
    tokenizer = train_tokenizer(training["text"], 300)
    seed = module._seed(run)
    stream = batches(training, run.mixture, tokenizer, sequences=4, tokens=25, seed=seed, where="")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(zoo.architectures[kind], vocabulary=300, context_tokens=256)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1, foreach=False)
    losses = []
    for step, batch in enumerate(islice(stream, 5)):
        optimizer.param_groups[0]["lr"] = 3e-3 * learning_rate_factor(step, 5)
        ids = torch.from_numpy(batch)
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    # Sums in another order differ by some 1e-7; Adam divides gradients by their size, which can enlarge that where a
    # gradient is near zero, but no weight moves by more than the sum of learning rates, 1e-2.
    assert rows["training_loss"][-1] == pytest.approx(sum(losses) / 5, rel=1e-5)
    for name, tensor in weights(tmp_path, "tiny-step5").items():
        assert torch.allclose(tensor, model.state_dict()[name], rtol=1e-3, atol=1e-4), name


def test_the_same_run_gives_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    expected, _ = train(tmp_path / "a")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.rand(3)  # the state of the global generator is nobody's business
        again, _ = train(tmp_path / "b", pages=PAGES.sample(fraction=1, shuffle=True, seed=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert_frame_equal(again, expected, check_exact=True)


def test_the_state_of_the_global_generator_is_as_before(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    train(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("instructions", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_the_dtype_that_the_processor_has_instructions_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instructions: bool, dtype: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": instructions})
    chosen, _ = train(tmp_path / "a", dtype="auto")
    stated, _ = train(tmp_path / "b", dtype=dtype)
    assert_frame_equal(chosen, stated, check_exact=True)


def test_bfloat16_is_repeatable_too_and_near_float32(tmp_path: Path) -> None:
    exact, _ = train(tmp_path / "a")
    rounded, _ = train(tmp_path / "b", dtype="bfloat16")
    again, _ = train(tmp_path / "c", dtype="bfloat16")
    assert_frame_equal(again, rounded, check_exact=True)
    assert rounded["weights_digest"][0] != exact["weights_digest"][0]
    # A bfloat16 has 8 bits, a relative error of 2^-9 per operation; the mean loss of five steps stays well within 1 %.
    assert rounded["training_loss"].to_list() == pytest.approx(exact["training_loss"].to_list(), rel=0.01)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"run": "other"}, {"mixture": {"*/code": 1.0}}, {"architecture": "gpt_neox"}]
)
def test_what_makes_a_run_changes_its_weights(tmp_path: Path, change: dict) -> None:
    expected, _ = train(tmp_path)
    changed, _ = train(tmp_path, run=RUN.model_copy(update=change), fingerprint="changed")
    assert not set(changed["weights_digest"]) & set(expected["weights_digest"])


def test_pages_of_other_splits_are_not_read(tmp_path: Path) -> None:
    expected, _ = train(tmp_path / "a")
    held_out = [page_row("a/code", index, "@@@@ ???? " * 50, "scoring") for index in range(200, 220)]
    with_more, _ = train(tmp_path / "b", pages=pl.concat([PAGES, pl.DataFrame(held_out)]))
    assert_frame_equal(with_more, expected, check_exact=True)


def test_a_model_learns(tmp_path: Path) -> None:
    rows, _ = train(tmp_path, checkpoints=(1, 60))
    # A uniform guess over the vocabulary costs ln 300. The pages repeat one of two lines: what is left to guess is
    # where a row begins, and a number.
    assert rows["training_loss"][-1] < 0.5 * math.log(300)


def test_a_complete_run_is_not_trained_again(tmp_path: Path) -> None:
    expected, _ = train(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again, steps = train(tmp_path)
    assert steps == []
    assert_frame_equal(again, expected, check_exact=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps


def test_a_run_with_a_damaged_or_foreign_checkpoint_starts_again_and_ends_the_same(tmp_path: Path) -> None:
    expected, _ = train(tmp_path)
    file = tmp_path / "tiny-step2" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    again, steps = train(tmp_path)
    assert steps == [1, 2, 3, 4, 5]
    assert_frame_equal(again, expected, check_exact=True)
    changed, steps = train(tmp_path, fingerprint="other")
    assert steps == [1, 2, 3, 4, 5]
    assert_frame_equal(changed, expected, check_exact=True)


def test_a_killed_run_leaves_only_whole_folders_and_ends_the_same_when_run_again(tmp_path: Path) -> None:
    expected, _ = train(tmp_path / "undisturbed", checkpoints=(1, 2, 3, 4))
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "ppl_assets_tests.training.zoos", str(killed)]
    pipe, environment = subprocess.PIPE, os.environ | {"OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, env=environment, cwd=root, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half written\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    half = [path for path in killed.iterdir() if path.name.startswith(".")]
    assert sorted(set(killed.iterdir()) - set(half)) == [killed / "tiny-step1", killed / "tiny-step2"]
    assert [(path.name.rsplit("-", 3)[0], (path / "model.safetensors").is_file()) for path in half] == [
        (".tiny-step3", True)
    ]
    for folder in (killed / "tiny-step1", killed / "tiny-step2"):
        row = expected.row(by_predicate=pl.col("slug") == folder.name, named=True)
        assert read_record(folder, fingerprint="f") == row
        assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() == row["params"]
        assert AutoTokenizer.from_pretrained(folder).bos_token_id == 0
    rows, _ = train(killed, checkpoints=(1, 2, 3, 4))
    assert_frame_equal(rows, expected, check_exact=True)
    assert remove_abandoned(killed) == half
    assert sorted(path.name for path in killed.iterdir()) == expected["slug"].to_list()


def test_a_loss_that_is_not_finite_names_run_and_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"zoo run 'tiny', step \d+: found loss .*nan.*lower zoo.learning_rate"):
        train(tmp_path, learning_rate=1e30, checkpoints=(20,))
    assert list(tmp_path.iterdir()) == []


def test_no_training_pages_and_a_pattern_without_pages_name_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="zoo run 'tiny': found no training pages"):
        train(tmp_path, pages=PAGES.filter(pl.col("split") != "training"))
    run = RUN.model_copy(update={"mixture": {"b/*": 1.0}})  # b/code has held-out pages only
    with pytest.raises(InputError, match=r"zoo run 'tiny': pattern 'b/\*' matches no domain"):
        train(tmp_path, run=run)


@pytest.mark.parametrize("steps", [1, 2, 10, 200])
def test_the_learning_rate_warms_up_for_a_tenth_and_falls_to_a_tenth(steps: int) -> None:
    factors = [learning_rate_factor(step, steps) for step in range(steps)]
    peak = max(1, round(0.1 * steps))
    assert factors[peak - 1] == 1.0
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert all(0.1 <= factor <= 1 or step < peak for step, factor in enumerate(factors))
    assert learning_rate_factor(10_000, 10_000) == pytest.approx(0.1)
