"""Studies with a pilot, and tables of runs with a known answer."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from ppl_assets.schema import TABLES
from ppl_assets.study import Study, parse_study

TASKS = {
    "code": [("code_choice/acc", "accuracy"), ("code_cost/bits_per_byte", "bpb")],
    "prose": [("prose_cost/bits_per_byte", "bpb")],
}

STUDY = """\
name: piloted
corpus:
  source: {kind: python_packages, packages: [email]}
  splits:
    training: {share: 0.6, pages_per_domain: 30}
    scoring: {share: 0.4, pages_per_domain: 2}
targets:
  code:
    tasks:
      - {task: code_choice, metric: acc, kind: accuracy}
      - {task: code_cost, metric: bits_per_byte, kind: bpb}
  prose: {tasks: [{task: prose_cost, metric: bits_per_byte, kind: bpb}]}
mixture: {keep: 0.2}
filter: {arms: [ours, uniform, dsir, rules]}
"""
PILOT = "pilot: {sizes: {tiny: {}}}\n"


def study(pilot: str = PILOT) -> Study:
    """A study of two targets and four arms; the section `pilot` as text."""
    return parse_study(STUDY + pilot, where="study", folder=Path())


def runs_table(
    values: Mapping[tuple[str, str, str], np.ndarray], *, size: str = "tiny", flops: float = 1e9
) -> pl.DataFrame:
    """Rows of ``pilot_runs`` from seeds' values by (arm, target, metric)."""
    rows = [
        {"arm": arm, "target": target, "size": size, "seed": seed, "metric": metric, "value": float(value)}
        for (arm, target, metric), value_S in values.items()
        for seed, value in enumerate(value_S)
    ]
    trained = {(arm, target) for arm, target, _ in values}
    seeds = {row["seed"] for row in rows}
    rows += [
        {"arm": arm, "target": target, "size": size, "seed": seed, "metric": "training/flops", "value": flops}
        for arm, target in sorted(trained)
        for seed in sorted(seeds)
    ]
    schema = TABLES["pilot_runs"].polars_schema
    same = {"run": "r", "pilot": "p"}
    return pl.DataFrame([{**dict.fromkeys(schema), **row, **same} for row in rows], schema=schema)


def random_values(
    arms: tuple[str, ...], *, seeds: int = 3, generator: int = 0
) -> dict[tuple[str, str, str], np.ndarray]:
    """Values between 0.2 and 0.8 of every arm, target and metric."""
    rng = np.random.default_rng(generator)
    metrics = [(target, name) for target, tasks in TASKS.items() for name, _ in [*tasks, ("held_out/bpb", "bpb")]]
    return {(arm, target, name): rng.uniform(0.2, 0.8, seeds) for arm in arms for target, name in metrics}


def domains_table(values: Mapping[tuple[str, str, str], np.ndarray], *, size: str = "tiny") -> pl.DataFrame:
    """Rows of ``pilot_domains`` from seeds' bits per byte by (arm, target, domain)."""
    rows = [
        {"arm": arm, "target": target, "size": size, "seed": seed, "domain": domain}
        | {"nll": float(value) * 100 * np.log(2), "bytes": 100, "bpb": float(value)}
        for (arm, target, domain), value_S in values.items()
        for seed, value in enumerate(value_S)
    ]
    return pl.DataFrame(rows, schema=TABLES["pilot_domains"].polars_schema)


PACKAGES = ("email", "jinja2", "rich", "typer")
TEXT_STUDY = f"""\
name: piloted
corpus:
  source: {{kind: python_packages, packages: [{", ".join(PACKAGES)}]}}
  splits:
    training: {{share: 0.6, pages_per_domain: 20}}
    scoring: {{share: 0.2, pages_per_domain: 2}}
    benchmark: {{share: 0.2, pages_per_domain: 20}}
  max_page_bytes: 10000
  chunk_tokens: 64
imports: {{bpb: [bpb.csv], scores: [scores.csv]}}
benchmarks:
  build:
    - {{task: code_continuation, pages: "*/code", form: continuation, items: 12, context_bytes: 100}}
targets:
  code: {{tasks: [{{task: code_continuation, metric: bits_per_byte, kind: bpb}}]}}
estimation: {{replicates: 50}}
mixture: {{keep: 0.2}}
filter: {{arms: [ours, uniform, language], languages: {{code: [none]}}, folds: 2, min_steps: 200}}
pilot:
  controls: [positive, negative]
  seeds: [0, 1]
  vocabulary: 300
  sizes:
    small:
      architecture: {{hidden_size: 32, layers: 1, heads: 2, intermediate_size: 64}}
      context_tokens: 128
      batch_sequences: 4
      budget_tokens: 8192
"""


def write_text_study(folder: Path, **replaced: str) -> Path:
    """Write a study of real text and made-up models whose losses say that code helps code; returns its path.

    No model is trained or scored but the pilot's. Its arm `language` finds no page.
    """
    rng = np.random.default_rng(0)
    skill, models = rng.normal(size=12), [f"model-{number:02d}" for number in range(12)]
    families = [f"family-{number % 6}" for number in range(12)]
    losses = [
        {"slug": slug, "family": family, "domain": f"{package}/{kind}"}
        | {"bpb": float(1.5 - 0.1 * sign * value + 0.005 * rng.normal())}
        for package in PACKAGES
        for kind, sign in (("code", 1), ("prose", -1))
        for slug, family, value in zip(models, families, skill, strict=True)
    ]
    scores = [
        {"slug": slug, "family": family, "task": "code_continuation", "metric": "bits_per_byte"}
        | {"value": float(2 - 0.1 * value + 0.005 * rng.normal())}
        for slug, family, value in zip(models, families, skill, strict=True)
    ]
    pl.DataFrame(losses).write_csv(folder / "bpb.csv")
    pl.DataFrame(scores).write_csv(folder / "scores.csv")
    text = TEXT_STUDY
    for before, after in replaced.items():
        text = text.replace(before, after)
    path = folder / "study.yaml"
    path.write_text(text)
    return path
