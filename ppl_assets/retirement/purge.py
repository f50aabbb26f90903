"""What is stored of retired domains is deleted at once, whether or not everything can be computed anew afterwards.

Rows of scored chunks and of imported files go one by one, so that what was paid for other domains is kept. Every other
part of a table that held a row of a retired domain goes as a whole, as do caches and published files: they are made
again, and until then nobody reads a mixture that lacks a piece.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ppl_assets.registry import without_domains
from ppl_assets.retired import Retired
from ppl_assets.schema import TABLES
from ppl_assets.settings import Settings
from ppl_assets.warehouse import Lake, replace_parquet

# Scored chunks cost hours of a GPU.
_KEPT_BY_ROW = ("chunk_logliks",)
# Every model of a pilot has a tokenizer, and most have pages, that held text of the domain.
_PILOT = ("pilot_runs", "pilot_domains", "pilot_curves", "pilot_comparison", "pilot_ranks", "pilot_trend", "pilot_harm")
# Numbers alone, from which the next mixture does not stray too far; made anew, it names no domain that is gone.
_MEMORY = ("mixture_changes",)


def parts_of(lake: Lake) -> Iterator[tuple[str, str | None]]:
    """Table and partition of every part in a lake, those of models that left the study included."""
    for name, table in TABLES.items():
        if table.partition is not None:
            yield from ((name, partition) for partition in lake.partitions(name))
        elif lake.exists(name):
            yield name, None


def purge_lake(lake: Lake, retired: Retired, page_ids: frozenset[str]) -> None:
    """Delete every part with rows of retired domains or of their pages; of scored chunks, these rows alone.

    Of a pilot only its plans are kept: what it measured is to be measured anew, when somebody asks for it.

    The mixture before is left for the next one to be compared with.

    What stays of scored chunks keeps its fingerprint: the chunks are others now, so it is stale and put together anew.
    """
    for table, partition in list(parts_of(lake)):
        footer = lake.footer(table, partition)
        if table in _MEMORY:
            continue
        if footer is None or not lake.verify(table, partition):  # damaged: nobody can say what is in it
            lake.remove(table, partition)
            continue
        if table in _PILOT:
            lake.remove(table, partition)
            continue
        rows = lake.read(table, partition)
        kept = _kept(rows, retired, page_ids)
        if kept.height == rows.height:
            continue
        if table in _KEPT_BY_ROW and kept.columns == list(TABLES[table].by_name):
            lake.write(table, kept, partition=partition, fingerprint=footer.fingerprint, cost=footer.cost)
        else:
            lake.remove(table, partition)


def purge_imports(folder: Path, retired: Retired) -> None:
    """Take retired domains out of the files that were imported."""
    for path in folder.rglob("*.parquet"):
        rows = pl.read_parquet(path)
        kept = without_domains(rows, retired)
        if kept.height < rows.height:
            replace_parquet(path, kept)


def purge_derived(settings: Settings) -> None:
    """Delete what is made in one piece, from text or for people: caches, tasks, filters, pages, pilots, reports."""
    caches = (settings.tokens, settings.shards, settings.digests)
    made = (settings.tasks, settings.filters, settings.selection, settings.pilot, settings.certificates)
    for folder in (*caches, *made):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (settings.warehouse_file, settings.report_file):
        file.unlink(missing_ok=True)


def _kept(rows: pl.DataFrame, retired: Retired, page_ids: frozenset[str]) -> pl.DataFrame:
    kept = without_domains(rows, retired)
    for column in ("page_id", "kept_page_id", "chunk_id"):
        if column in kept.columns:
            # A chunk's id is that of its page, '#' and its place.
            page = pl.col(column).str.replace(r"#\d+$", "") if column == "chunk_id" else pl.col(column)
            kept = kept.filter(~page.is_in(list(page_ids)))
    return kept
