"""Scoring that is killed at any moment and resumed ends in the same bytes, and scores no finished shard again."""

import multiprocessing
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from ppl_assets.errors import InputError
from ppl_assets.likelihood import Settings, passes, resume_shards, score_shards, score_texts, shards, tokenize
from ppl_assets.likelihood.shards import STATISTICS, cut_shards
from ppl_assets.processes import process_mark, temporary_path
from ppl_assets.progress import Progress
from ppl_assets_tests.likelihood.killed import SETTINGS, TEXTS, score_into, score_into_with_log
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, tiny_gpt2

KILLS = 20


def _files(folder: Path) -> dict[str, str]:
    """Digest of each shard's file."""
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*/*.npz"))}


def test_killed_at_20_random_moments_and_resumed_the_partition_is_byte_identical(tmp_path) -> None:
    score_into(tmp_path / "whole")
    whole = _files(tmp_path / "whole")
    assert len(whole) > 25
    spawn = multiprocessing.get_context("forkserver")
    spawn.set_forkserver_preload(["ppl_assets_tests.likelihood.killed"])
    generator, kills, attempt, partial = np.random.default_rng(0), 0, 0, 0
    while kills < KILLS:
        attempt += 1
        folder, begun, finished = tmp_path / f"killed {attempt}", tmp_path / f"begun {attempt}", set()
        exit_code = None
        while exit_code != 0:
            begun.write_text("")
            child = spawn.Process(target=score_into_with_log, args=(folder, begun))
            child.start()
            child.join(timeout=None if kills == KILLS else float(generator.uniform(0, 0.8)))
            kills += child.exitcode is None
            child.kill()
            child.join()
            exit_code = child.exitcode
            assert not finished & {int(line) for line in begun.read_text().splitlines()}  # none scored twice
            finished = {int(name.removesuffix(".npz")) for name in _files(folder)}
            partial += 0 < len(finished) < len(whole)
        assert _files(folder) == whole
    assert partial >= 5  # the kills do not all come before the first shard or after the last


def test_the_merged_scores_are_those_of_all_texts_at_once(tmp_path) -> None:
    texts = [*TEXTS[:40], "", "a\ud800"]
    tokens = tokenize(byte_tokenizer(), texts)
    merged = resume_shards(tmp_path, tiny_gpt2(), tokens, SETTINGS, identity="tiny")
    whole = score_texts(tiny_gpt2(), byte_tokenizer(), texts)
    # Shards change the rows of a batch, hence the last digits.
    np.testing.assert_allclose(merged.nll, whole.nll, rtol=1e-6)
    for name in ("tokens", "bytes", "bytes_first", "status"):
        assert np.array_equal(getattr(merged, name), getattr(whole, name))


def test_half_written_and_damaged_files_are_made_again_and_whole_shards_kept(tmp_path) -> None:
    tokens = tokenize(byte_tokenizer(), TEXTS)
    resume_shards(tmp_path, tiny_gpt2(), tokens, SETTINGS, identity="tiny")
    whole = _files(tmp_path)
    store = next(tmp_path.iterdir())
    (store / "000003.npz").unlink()
    half = temporary_path(store / "000003.npz")
    half.with_name(half.name.replace(process_mark(), "1@1")).write_bytes(b"PK half a file")
    (store / "000005.npz").write_bytes((store / "000005.npz").read_bytes()[:-100])
    kept = (store / "000004.npz").stat()
    resume_shards(tmp_path, tiny_gpt2(), tokens, SETTINGS, identity="tiny")
    assert _files(tmp_path) == whole
    assert not list(store.glob(".*.tmp"))
    assert (store / "000004.npz").stat() == kept


@pytest.mark.parametrize(
    "change",
    [{"identity": "other weights"}, {"settings": Settings(prefix=257, shard_tokens=600)}, {"texts": TEXTS[:9]}],
)
def test_other_weights_settings_or_texts_never_share_shards(tmp_path, change) -> None:
    base = {"identity": "tiny", "settings": SETTINGS, "texts": TEXTS[:10]}
    for case in (base, base | change):
        tokens = tokenize(byte_tokenizer(), case["texts"])
        resume_shards(tmp_path, tiny_gpt2(), tokens, case["settings"], identity=case["identity"])
    assert len(list(tmp_path.iterdir())) == 2


def test_shards_hold_every_text_once_longest_first_and_close_to_their_size() -> None:
    lengths = np.array([5, 0, 70, 3, 30, 30, 1, 1000, 0, 12])
    cut = cut_shards(lengths, 50)
    assert sorted(np.concatenate(cut).tolist()) == list(range(10))
    assert np.all(np.diff(lengths[np.concatenate(cut)]) <= 0)
    assert all(lengths[shard[:-1]].sum() < 50 + lengths[shard[0]] for shard in cut)
    assert [shard.tolist() for shard in cut_shards(np.empty(0, np.int64), 50)] == [[]]
    with pytest.raises(InputError, match="shard_tokens: found 0"):
        Settings(prefix=0, shard_tokens=0)


def test_an_empty_corpus_has_empty_scores(tmp_path) -> None:
    scores = resume_shards(tmp_path, tiny_gpt2(), tokenize(byte_tokenizer(), []), SETTINGS, identity="tiny")
    assert all(getattr(scores, name).shape == (0,) for name in STATISTICS)


def test_progress_counts_every_token_to_the_end() -> None:
    seen: list[Progress] = []
    tokens = tokenize(byte_tokenizer(), TEXTS[:20])
    list(score_shards(tiny_gpt2(), tokens, SETTINGS, progress=seen.append))
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == seen[-1].total == len(tokens.ids)


def test_a_shard_during_which_memory_ran_out_is_scored_with_one_smaller_budget(monkeypatch) -> None:
    score_batch = passes._score_batch

    def short_of_memory(*arguments):
        batch, width = arguments[-2:]
        if len(batch) * width > 300:
            raise torch.OutOfMemoryError("made up")
        return score_batch(*arguments)

    monkeypatch.setattr(passes, "_score_batch", short_of_memory)
    settings = Settings(prefix=256, shard_tokens=2000, token_budget=1000)
    tokens = tokenize(byte_tokenizer(), TEXTS)
    scored = list(score_shards(tiny_gpt2(), tokens, settings))
    budgets = [shard.token_budget for shard in scored]
    assert budgets == sorted(budgets, reverse=True)
    assert max(budgets) <= 600  # halved from 1,000 or less before the first shard was handed out
    monkeypatch.undo()
    for shard in scored:
        again = score_texts(
            tiny_gpt2(), byte_tokenizer(), [TEXTS[i] for i in shard.index], token_budget=shard.token_budget
        )
        assert np.array_equal(again.nll, shard.scores.nll)


def test_a_row_that_does_not_fit_alone_is_an_error_that_says_so(monkeypatch) -> None:
    def out_of_memory(*_):
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr(passes, "_score_batch", out_of_memory)
    monkeypatch.setattr("ppl_assets.likelihood.scoring.refusal_of", lambda *_: None)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        score_texts(tiny_gpt2(), byte_tokenizer(), ["four", "long"])
    assert "a single row of 4 positions" in caught.value.__notes__[0]


_SHORT_OF_MEMORY = """
import resource, psutil, torch
import numpy as np
from transformers import GPT2Config, GPT2LMHeadModel
from ppl_assets.likelihood import score_texts
from ppl_assets.likelihood.passes import affordable_budget
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, text_of_bytes
torch.set_num_threads(1)
torch.manual_seed(0)
wide = GPT2Config(vocab_size=260, n_embd=256, n_layer=1, n_head=4, bos_token_id=256, eos_token_id=257)
model = GPT2LMHeadModel(wide).eval()
texts = [text_of_bytes(200, np.random.default_rng(number)) for number in range(250)]
enough = score_texts(model, byte_tokenizer(), texts, token_budget=4000)
# All texts at once take hundreds of megabytes more than this process has now.
limit = psutil.Process().memory_info().vms + 100 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
short = score_texts(model, byte_tokenizer(), texts, token_budget=50_000)
assert affordable_budget(model, 50_000) < 50_000, "memory did not run out"
# Sums of 200 float32 losses in batches of other shapes.
np.testing.assert_allclose(short.nll, enough.nll, rtol=1e-5)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of memory is absent")
def test_memory_that_really_runs_out_halves_the_budget_and_changes_no_loss() -> None:
    """Made up nowhere: the kernel refuses the allocations of a process whose address space is limited."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", _SHORT_OF_MEMORY], check=True)


def test_no_altered_byte_of_a_shard_goes_unnoticed(tmp_path) -> None:
    path = tmp_path / "000000.npz"
    (scored,) = score_shards(tiny_gpt2(), tokenize(byte_tokenizer(), TEXTS[:2]), Settings(prefix=256))
    shards._write(path, scored)
    content = path.read_bytes()
    for position in range(len(content)):
        altered = bytearray(content)
        altered[position] ^= 1
        path.write_bytes(altered)
        read = shards._read(path)
        assert read is None or all(
            np.array_equal(getattr(read.scores, name), getattr(scored.scores, name)) for name in STATISTICS
        )
