"""A study with text, models and tasks of its own that runs in seconds: random models, whose losses mean nothing.

What the tests of operations need: every kind of partition, cheap enough to be computed again and again.
"""

import json
from pathlib import Path
from zlib import crc32

import numpy as np
import polars as pl
import transformers

from ppl_assets_tests.likelihood.tiny import byte_tokenizer, text_of_bytes, tiny_gpt2

DOMAINS = tuple(f"site-{number}.org" for number in range(4))
MODELS = ("alpha", "beta", "gamma", "delta")

STUDY = """\
name: scored
corpus:
  source: {kind: jsonl, paths: [pages.jsonl], domain: domain}
  splits:
    scoring: {share: 0.6, pages_per_domain: 4}
    benchmark: {share: 0.4, pages_per_domain: 8}
  chunk_tokens: 64
models:
MODELS
benchmarks:
  build: [{task: continuation, pages: "*", form: continuation, items: 6, context_bytes: 40}]
targets:
  built: {tasks: [{task: continuation, metric: bits_per_byte, kind: bpb}], allow_reversed: true}
KNOWN
estimation: {replicates: 20, minimum_models: 3}
mixture: {keep: 0.5}
"""
KNOWN = """\
  known: {tasks: [{task: exam, metric: acc, kind: accuracy}], allow_reversed: true}
imports: {scores: [scores.csv]}
"""


def write_scored_study(folder: Path, models: tuple[str, ...] = MODELS, *, known: str = KNOWN) -> Path:
    """Write the study, its pages, its models' folders and their imported scores; returns the path of the study file.

    Without the lines `known`, all scores are of the task that is built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with (folder / "pages.jsonl").open("w") as file:
        for number in range(80):
            page = {"domain": DOMAINS[number % len(DOMAINS)], "text": text_of_bytes(int(rng.integers(250, 700)), rng)}
            file.write(json.dumps(page) + "\n")
    for slug in models:
        write_model(folder / slug, seed=crc32(slug.encode()))
    write_scores(folder, models)
    study = folder / "study.yaml"
    study.write_text(STUDY.replace("MODELS\n", "".join(map(listed, models))).replace("KNOWN\n", known))
    return study


def add_model(study: Path, slug: str) -> None:
    """A model that the study does not have yet: its folder and its line."""
    write_model(study.parent / slug, seed=crc32(slug.encode()))
    study.write_text(study.read_text().replace("models:\n", f"models:\n{listed(slug)}"))


def listed(slug: str) -> str:
    """A model's line in the study."""
    return f"  - {{slug: {slug}, family: {slug}, source: {slug}}}\n"


def write_model(folder: Path, *, seed: int) -> None:
    """A model folder with random weights of `seed`."""
    tiny_gpt2(seed=seed).save_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(), bos_token="<s>", eos_token="</s>"
    )
    tokenizer.save_pretrained(folder)


def write_scores(folder: Path, models: tuple[str, ...]) -> None:
    """Scores of the task that is not built."""
    values = [0.2 + 0.6 * (sum(slug.encode()) % 97) / 97 for slug in models]
    rows = {"slug": models, "family": models, "task": "exam", "metric": "acc", "value": values}
    pl.DataFrame(rows).write_csv(folder / "scores.csv")
