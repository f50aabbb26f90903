"""Benchmark scores as rows of their table: what was imported for a model, and what is evaluated for it."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Target
from ppl_assets.warehouse import Lake, file_digest

_SCORE_COLUMNS = list(TABLES["benchmark_scores"].by_name)


def imported_score_rows(lake: Lake, slug: str) -> pl.DataFrame:
    """Rows of ``benchmark_scores`` that were imported for a model."""
    if not lake.exists("imported_scores"):
        return TABLES["benchmark_scores"].polars_schema.to_frame()
    return lake.read("imported_scores").filter(pl.col("slug") == slug).select(_SCORE_COLUMNS)


def tasks_to_run(targets: Iterable[Target], imported: pl.DataFrame) -> list[str]:
    """Tasks of the targets for which a model has no imported score, sorted."""
    known = set(imported.select("task", "metric").iter_rows())
    return sorted({task.task for target in targets for task in target.tasks if (task.task, task.metric) not in known})


def merged_scores(imported: pl.DataFrame, slug: str, evaluated: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``benchmark_scores`` for one model: what was imported, and of what `evaluate` reports all other metrics.

    A task of which one metric was imported is evaluated as a whole where a target uses another one.
    """
    others = evaluated.join(imported, on=("task", "metric"), how="anti", maintain_order="left")
    return pl.concat([imported, others.with_columns(slug=pl.lit(slug)).select(_SCORE_COLUMNS)])


def task_folder_digest(folder: Path, cache: Path) -> list[tuple[str, str]]:
    """Names and digests of a task folder's files; what Python leaves beside an imported helper is none of them."""
    names = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return [(str(name), file_digest(folder / name, cache)) for name in names if "__pycache__" not in name.parts]
