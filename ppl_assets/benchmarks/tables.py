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


def task_folder_digest(folder: Path, cache: Path) -> list[tuple[str, str]]:
    """Names and digests of a task folder's files."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [(str(file.relative_to(folder)), file_digest(file, cache)) for file in files]
