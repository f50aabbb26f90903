"""Training throughput of a pilot run next to a bare PyTorch loop on the same model and batches: one line of JSON.

Both take turns, and each is timed from the end of its first step to that of its last. On a CPU, where a run has one
thread, time is processor time: others on the machine do not count. The ratio is that of the medians. With a GPU, also
the share of its peak that the preset `160m` reaches, at `--peak` FLOP/s (default: an H100's bfloat16 tensor cores).

Run: python -m ppl_assets_tests.bench.bench_pilot [--preset tiny] [--steps 30] [--repetitions 7] [--peak 989e12]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ppl_assets.pilot.packing import PackedPages, Sequences, tokenize_pages
from ppl_assets.pilot.training import Run, initial_model, train
from ppl_assets.study.schema import PilotSize
from ppl_assets.training.tokenizer import as_transformers, train_tokenizer
from ppl_assets.training.train import one_thread

PAGES, PAGE_WORDS = 2000, 400


def page_texts() -> dict[str, str]:
    """Pages of random words with the frequencies of a language (Zipf)."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("etaoinshrdlu"), rng.integers(2, 9))) for _ in range(5000)])
    frequency = 1 / np.arange(1, 5001)
    drawn = rng.choice(words, (PAGES, PAGE_WORDS), p=frequency / frequency.sum())
    return {f"page-{number}": " ".join(row) for number, row in enumerate(drawn)}


def prepared(folder: Path, preset: str, steps: int) -> Run:
    """A run of `steps` steps of a preset, with its pages tokenized."""
    size = PilotSize.model_validate({"preset": preset})
    size = PilotSize.model_validate(
        {"preset": preset, "budget_tokens": steps * size.batch_sequences * size.context_tokens}
    )
    pages = page_texts()
    raw = train_tokenizer(pages.values(), 1024)
    tokenize_pages(pages.items(), folder / "tokens", raw, start=0, identity="bench")
    tokenizer = as_transformers(raw, context_tokens=size.context_tokens)
    return Run(
        where="bench",
        size=size,
        tokens=folder / "tokens",
        pages="bench",
        tokenizer=tokenizer,
        seed=0,
        max_epochs=float("inf"),
    )


def bare_loop(run: Run) -> float:
    """Seconds of the same steps by hand: forward, backward, clip, AdamW, cosine; nothing else."""
    size, device = run.size, "cuda" if torch.cuda.is_available() else "cpu"
    count = size.steps * size.batch_sequences
    pages = PackedPages(run.tokens, where="bench")
    epochs = 1 + size.trained_tokens // pages.tokens
    rows = Sequences(pages.stream(seed=0, epochs=epochs), length=size.context_tokens, count=count)
    with one_thread(seed=0):
        model = initial_model(run).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, size.steps)
        micro = size.device_sequences or size.batch_sequences
        seen = []
        for step in range(size.steps):
            for first in range(0, size.batch_sequences, micro):
                batch = [rows[step * size.batch_sequences + first + row] for row in range(micro)]
                ids, labels = (torch.stack([row[key] for row in batch]).to(device) for key in ("input_ids", "labels"))
                with torch.autocast(device, torch.bfloat16, enabled=size.dtype == "bfloat16"):
                    logits = model(ids).logits
                loss = cross_entropy(logits.float().flatten(0, 1), labels.flatten())
                (loss * micro / size.batch_sequences).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            seen.append(now())
    return seen[-1] - seen[0]


def our_run(run: Run, folder: Path) -> float:
    """Seconds of the same steps by `train`."""
    seen: list[float] = []
    train(run, folder, progress=lambda _: seen.append(now()))
    return seen[-1] - seen[0]


def now() -> float:
    """Seconds that the work so far has taken."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measured(run: Run, folder: Path, repetitions: int) -> dict[str, Any]:
    """Medians of both over interleaved repetitions; the first of each warms up and is left out."""
    ours, bare = [], []
    for number in range(repetitions + 1):
        ours.append(our_run(replace(run, seed=number), folder / f"run-{number}"))
        bare.append(bare_loop(replace(run, seed=number)))
    tokens = run.size.trained_tokens * (run.size.steps - 1) / run.size.steps
    rates = [tokens / statistics.median(times[1:]) for times in (ours, bare)]
    return {"tokens per second": rates[0], "bare loop": rates[1], "ratio": rates[0] / rates[1]}


def main() -> None:
    """Measure, print, and fail below 0.8 of the bare loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="160m" if torch.cuda.is_available() else "tiny")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--peak", type=float, default=989e12, help="FLOP/s of the GPU")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = prepared(Path(folder), options.preset, options.steps)
        found = measured(run, Path(folder), options.repetitions)
        row = {"what": "pilot training", "preset": options.preset, **found}
        if torch.cuda.is_available():
            params = sum(parameter.numel() for parameter in initial_model(run).parameters())
            row["share of peak"] = 6 * params * found["tokens per second"] / options.peak
    sys.stdout.write(json.dumps(row) + "\n")
    if found["ratio"] < 0.8:
        sys.exit(f"found {found['ratio']:.2f} of the bare loop's throughput, expected at least 0.8")


if __name__ == "__main__":
    main()
