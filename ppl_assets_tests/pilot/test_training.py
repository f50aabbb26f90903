"""One run by transformers' Trainer: repeatable, paired, and the same however often it is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch.nn.functional import cross_entropy

from ppl_assets.errors import InputError
from ppl_assets.likelihood import load_model, score_texts
from ppl_assets.meter import Clock
from ppl_assets.pilot.packing import PackedPages, Sequences
from ppl_assets.pilot.training import initial_model, train
from ppl_assets_tests.pilot.worlds import page_texts, run_on

PAGES = page_texts(60)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model" / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run: its description, its folder, and what is known of it."""
    folder = tmp_path_factory.mktemp("trained")
    run = run_on(folder, PAGES)
    return run, folder / "run", train(run, folder / "run")


def test_a_run_learns_and_says_what_it_did(trained):
    run, folder, facts = trained
    assert facts["tokens"] == 640
    assert facts["unique_tokens"] == PackedPages(run.tokens, where="").tokens
    assert facts["epochs"] == 640 / facts["unique_tokens"]
    assert facts["params"] == sum(tensor.numel() for tensor in weights(folder).values())
    assert facts["flops"] == 6 * facts["params"] * 640
    assert [point["step"] for point in facts["curve"]] == list(range(1, 11))
    assert facts["curve"][-1]["loss"] < facts["curve"][0]["loss"]
    assert all(point["tokens_per_second"] > 0 for point in facts["curve"])


def test_the_model_is_one_that_the_likelihood_room_scores_and_no_pickle_is_left(trained):
    _, folder, _ = trained
    loaded = load_model(folder / "model")
    assert score_texts(loaded.model, loaded.tokenizer, ["the quick brown fox"]).status.tolist() == ["ok"]
    assert not list(folder.rglob("*.bin")) + list(folder.rglob("*.pt"))


def test_a_finished_run_is_not_trained_again(trained, monkeypatch):
    run, folder, facts = trained
    monkeypatch.setattr("ppl_assets.pilot.training._trainer", lambda *_: pytest.fail("trained again"))
    assert train(run, folder) == facts


def test_the_first_steps_are_those_of_a_bare_loop(tmp_path):
    """AdamW, clipping, warm-up and cosine by hand on the same rows: what Trainer does and nothing else.

    Over ten steps two orders of adding floats stay within 1e-4 of weights of size 0.1.
    """
    run = run_on(tmp_path, PAGES)
    train(run, tmp_path / "run")
    model = initial_model(run)
    rows = Sequences(PackedPages(run.tokens, where="").stream(seed=0, epochs=2), length=16, count=40)
    plain = [parameter for name, parameter in model.named_parameters() if "norm" in name]
    decayed = [parameter for name, parameter in model.named_parameters() if "norm" not in name]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95))
    for step in range(10):
        factor = step / 1 if step < 1 else 0.5 * (1 + torch.cos(torch.tensor(torch.pi * (step - 1) / 9)))
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * float(factor)
        batch = [rows[step * 4 + row] for row in range(4)]
        logits = model(torch.stack([row["input_ids"] for row in batch])).logits
        loss = cross_entropy(logits.flatten(0, 1), torch.cat([row["shift_labels"] for row in batch]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    found = weights(tmp_path / "run")
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach(), atol=1e-4, rtol=0)


def test_arms_start_from_the_same_weights_and_seeds_from_others(tmp_path):
    ours, uniform = run_on(tmp_path, PAGES), run_on(tmp_path, page_texts(40, first=10))
    other = run_on(tmp_path, PAGES, seed=1)
    initial = [dict(initial_model(run).state_dict()) for run in (ours, uniform, other)]
    assert same(initial[0], initial[1])
    assert not same(initial[0], initial[2])
    assert len({ours.identity, uniform.identity, other.identity}) == 3


def test_sequences_a_device_takes_at_once_do_not_change_what_is_learned(tmp_path, trained):
    """Up to the order in which gradients are added."""
    _, folder, _ = trained
    run = run_on(tmp_path, PAGES, device_sequences=2)
    assert run.identity == trained[0].identity
    train(run, tmp_path / "run")
    for name, weight in weights(tmp_path / "run").items():
        torch.testing.assert_close(weight, weights(folder)[name], atol=1e-4, rtol=0)


_KILLED = """
import os, signal, sys
from pathlib import Path
from ppl_assets.pilot import training
from ppl_assets_tests.pilot.worlds import page_texts, run_on

folder, place, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if place == "step":
    training.train(run_on(folder, page_texts(60)), folder / "run",
                   progress=lambda done: die() if done.done >= step * 64 else None)
else:  # while a checkpoint is being written: its weights are there, the rest is not
    import transformers
    transformers.Trainer._save_optimizer_and_scheduler = die
    training.train(run_on(folder, page_texts(60)), folder / "run")
"""


@pytest.mark.parametrize(("place", "step"), [("step", 2), ("step", 8), ("checkpoint", 0)])
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(tmp_path, trained, place, step):
    """Killed for real (SIGKILL) before any checkpoint, between two of them, and within one; then resumed."""
    killed = subprocess.run([sys.executable, "-c", _KILLED, tmp_path, place, str(step)], env=os.environ, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "model").exists()
    left = list((tmp_path / "run").glob("checkpoints-*/checkpoint-*"))
    assert len(left) == {("step", 2): 0, ("step", 8): 2, ("checkpoint", 0): 1}[place, step]
    _, folder, facts = trained
    resumed = train(run_on(tmp_path, PAGES), tmp_path / "run")
    assert same(weights(tmp_path / "run"), weights(folder))
    losses = [[point["loss"] for point in each["curve"]] for each in (resumed, facts)]
    assert losses[0] == losses[1]
    assert not list((tmp_path / "run").glob("checkpoints-*"))


def test_a_run_goes_on_from_its_last_checkpoint_instead_of_starting_anew(tmp_path):
    run = run_on(tmp_path, PAGES)

    def stop(done):
        if done.done >= 8 * 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "run", progress=stop)
    steps = []
    train(run, tmp_path / "run", progress=lambda done: steps.append(done.total))
    assert set(steps) == {4 * 64}  # six of ten steps were saved


def test_a_resumed_run_took_the_time_of_both_sittings(tmp_path):
    """Of the interrupted one up to the checkpoint from which it went on: what came after is done again."""
    run = run_on(tmp_path, PAGES)

    def stop(done):
        if done.done >= 8 * 64:
            raise KeyboardInterrupt

    before = Clock()
    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "run", progress=stop)
    first, between = before.read("cpu"), Clock()
    spent = train(run, tmp_path / "run")["spent"]
    second = between.read("cpu")
    assert len(spent) == 2
    for reading, bound in zip(spent, (first, second), strict=True):
        assert reading["device"] == "cpu"
        for name in ("seconds", "device_seconds"):  # processor time comes in ticks
            assert 0 < reading[name] <= bound[name]


def test_a_changed_run_does_not_go_on_from_the_checkpoints_of_another(tmp_path):
    def stop(done):
        if done.done >= 8 * 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run_on(tmp_path, PAGES), tmp_path / "run", progress=stop)
    steps = []
    train(run_on(tmp_path, PAGES, learning_rate=1e-3), tmp_path / "run", progress=lambda done: steps.append(done.total))
    assert set(steps) == {10 * 64}


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_a_number_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, what):
    run, seen = run_on(tmp_path, PAGES), []

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        seen.append(gradient)
        return gradient * float("nan") if len(seen) == 8 else gradient

    def spoiled_model(run):
        model = initial_model(run)
        if what == "loss":
            model.lm_head.register_forward_hook(lambda _, __, logits: spoil(logits))
        else:
            model.lm_head.weight.register_hook(spoil)
        return model

    monkeypatch.setattr("ppl_assets.pilot.training.initial_model", spoiled_model)
    with pytest.raises(InputError, match=rf"arm 'ours', step 8 of 10: found {what} nan.*checkpoint-6; lower"):
        train(run, tmp_path / "run")
    kept = tmp_path / "run" / f"checkpoints-{run.identity}" / "checkpoint-6"
    assert all(tensor.isfinite().all() for tensor in safetensors.torch.load_file(kept / "model.safetensors").values())


def test_a_run_continues_from_a_checkpoint(tmp_path, trained):
    from dataclasses import replace

    _, folder, _ = trained
    run = run_on(tmp_path, PAGES, budget_tokens=64, learning_rate=1e-9)
    added = replace(run, start=folder / "model", start_digest="of its weights")
    assert added.identity != run.identity
    train(added, tmp_path / "run")
    for name, weight in weights(tmp_path / "run").items():
        torch.testing.assert_close(weight, weights(folder)[name], atol=1e-6, rtol=0)


def test_a_budget_beyond_the_pages_is_refused_before_training(tmp_path):
    run = run_on(tmp_path, page_texts(2), max_epochs=1.0)
    with pytest.raises(InputError, match=r"arm 'ours': found .* tokens of pages, expected at least 640"):
        train(run, tmp_path / "run")
