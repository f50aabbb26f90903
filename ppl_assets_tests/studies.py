"""Studies that tests run: small, made on the spot, and with a known answer."""

from pathlib import Path

import numpy as np
import polars as pl

FAMILIES = 6
MODELS = 12
DOMAINS = tuple(f"{kind}-{number}" for kind in ("maths", "poetry") for number in range(4))


def imported_tables(seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Losses and scores of 12 models: skill in maths lowers losses on maths domains and the error on ``sums``.

    Skill in poetry does the same for poetry domains and ``verse``; the two skills are independent.
    """
    rng = np.random.default_rng(seed)
    skill = {"maths": rng.normal(size=MODELS), "poetry": rng.normal(size=MODELS)}
    slugs = [f"model-{number:02d}" for number in range(MODELS)]
    losses = [
        {"slug": slug, "family": f"family-{index % FAMILIES}", "domain": domain, "bpb": float(value)}
        for domain in DOMAINS
        for index, (slug, value) in enumerate(
            zip(slugs, 1 - 0.1 * skill[domain.split("-")[0]] + 0.005 * rng.normal(size=MODELS), strict=True)
        )
    ]
    scores = [
        {"slug": slug, "family": f"family-{index % FAMILIES}", "task": task, "metric": "acc", "value": float(value)}
        for task, kind in (("sums", "maths"), ("verse", "poetry"))
        for index, (slug, value) in enumerate(
            zip(slugs, np.clip(0.5 + 0.1 * skill[kind] + 0.005 * rng.normal(size=MODELS), 0, 1), strict=True)
        )
    ]
    return pl.DataFrame(losses), pl.DataFrame(scores)


TEXT_STUDY = """\
name: text
corpus:
  source: {kind: python_packages, packages: [email, json, jinja2, rich, typer]}
  splits:
    training: {share: 0.6, pages_per_domain: 30}
    scoring: {share: 0.2, pages_per_domain: 2}
    benchmark: {share: 0.2, pages_per_domain: 20}
  max_page_bytes: 10000
  chunk_tokens: 64
zoo:
  tokenizers: {tiny: {vocabulary: 400}}
  architectures: {llama: {kind: llama, hidden_size: 32, layers: 1, heads: 2, intermediate_size: 64}}
  checkpoints: [4, 16, 40]
  batch_sequences: 8
  sequence_tokens: 64
  runs:
    - {run: code, family: code, tokenizer: tiny, architecture: llama, mixture: {"*/code": 1}}
    - {run: prose, family: prose, tokenizer: tiny, architecture: llama, mixture: {"*/prose": 1}}
    - {run: even, family: even, tokenizer: tiny, architecture: llama, mixture: {"*": 1}}
    - {run: rich, family: rich, tokenizer: tiny, architecture: llama, mixture: {"rich/*": 1}}
benchmarks:
  build:
    - {task: code_continuation, pages: "*/code", form: continuation, items: 12, context_bytes: 100}
    - {task: prose_choice, pages: "*/prose", form: choice, items: 12, context_bytes: 100}
targets:
  code: {tasks: [{task: code_continuation, metric: bits_per_byte, kind: bpb}]}
  prose: {tasks: [{task: prose_choice, metric: acc_mutual_info, kind: accuracy}], allow_reversed: true}
estimation: {replicates: 100}
mixture: {keep: 0.2}
filter:
  {dimension: 8, buckets: 2000, folds: 2, min_steps: 300, with_text: true, arms: [ours, uniform],
   languages: {code: [python], prose: [en]}}
"""


def write_text_study(folder: Path) -> Path:
    """Write a study that trains 12 tiny models in 4 families on real text; returns the path of the study file."""
    path = folder / "study.yaml"
    path.write_text(TEXT_STUDY)
    return path


def write_import_study(folder: Path) -> Path:
    """Write the study of `imported_tables` and its files into `folder`; returns the path of the study file."""
    losses, scores = imported_tables()
    losses.write_csv(folder / "bpb.csv")
    scores.write_csv(folder / "scores.csv")
    path = folder / "study.yaml"
    path.write_text(
        """\
name: imported
imports: {bpb: [bpb.csv], scores: [scores.csv]}
targets:
  sums: {tasks: [{task: sums, metric: acc, kind: accuracy}]}
  verse: {tasks: [{task: verse, metric: acc, kind: accuracy}]}
estimation: {replicates: 200}
mixture: {keep: 0.25}
"""
    )
    return path


def write_many_models(folder: Path, *, models: int, domains: int, tasks: int = 2) -> Path:
    """A study of imported losses and scores of any size, a target per task; returns the path of the study file.

    Skill lowers losses on every other domain and raises all scores. A model's numbers are the same however many there
    are; families have three models each.
    """
    weight_D = 0.1 * (np.arange(domains) % 2)
    losses, scores = [], []
    for number in range(models):
        rng = np.random.default_rng(number)
        model = {"slug": f"model-{number:03d}", "family": f"family-{number // 3:02d}"}
        skill = rng.normal()
        names = [f"domain-{domain}.org" for domain in range(domains)]
        bpb_D = 1 - skill * weight_D + 0.05 * rng.normal(size=domains)
        own = pl.DataFrame({"domain": names, "bpb": bpb_D})
        losses.append(own.with_columns(**{key: pl.lit(value) for key, value in model.items()}))
        value_T = np.clip(0.5 + 0.1 * skill + 0.05 * rng.normal(size=tasks), 0, 1)
        scores += [
            model | {"task": f"task-{task}", "metric": "acc", "value": value} for task, value in enumerate(value_T)
        ]
    pl.concat(losses).write_parquet(folder / "bpb.parquet")
    pl.DataFrame(scores).write_csv(folder / "scores.csv")
    targets = [
        f"  task-{task}: {{tasks: [{{task: task-{task}, metric: acc, kind: accuracy}}]}}\n" for task in range(tasks)
    ]
    path = folder / "study.yaml"
    path.write_text(
        "name: many\nimports: {bpb: [bpb.parquet], scores: [scores.csv]}\n"
        f"targets:\n{''.join(targets)}mixture: {{keep: 0.25}}\n"
    )
    return path
