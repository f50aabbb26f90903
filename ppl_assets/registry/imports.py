"""Losses and scores computed elsewhere: the files that the study names and those that ``ppl-assets import`` took in."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.registry.lineage import LINEAGE, check_lineage
from ppl_assets.registry.matrices import read_bpb, read_scores
from ppl_assets.retired import Retired, retired_in
from ppl_assets.schema import TABLES, Table
from ppl_assets.settings import Settings
from ppl_assets.study import Study
from ppl_assets.warehouse import file_digest, replace_parquet

Kind = Literal["bpb", "scores"]


def import_files(study: Study, settings: Settings, kind: Kind) -> list[Path]:
    """The files of one kind, those of the study first."""
    named = [study.path(name) for name in getattr(study.imports, kind)]
    missing = [path for path in named if not path.is_file()]
    if missing:
        raise InputError(f"study field imports.{kind}: {missing[0]}: no such file")
    taken = (settings.imports / kind).glob("*.parquet") if (settings.imports / kind).is_dir() else []
    return [*named, *sorted(taken)]


def import_digest(study: Study, settings: Settings, kind: Kind) -> list[str]:
    """What the imported rows are computed from: the files' contents, and how they are read."""
    digests = [file_digest(path, settings.digests) for path in import_files(study, settings, kind)]
    return [*digests, *(f"{task}={metric}" for task, metric in sorted(study.imports.metrics.items()))]


def imported_bpb(study: Study, settings: Settings) -> pl.DataFrame:
    """Rows of the table ``imported_bpb`` from all files, without retired domains."""
    return _combined(study, settings, "bpb", read_bpb, TABLES["imported_bpb"])


def imported_scores(study: Study, settings: Settings) -> pl.DataFrame:
    """Rows of the table ``imported_scores`` from all files."""

    def read(path: Path) -> pl.DataFrame:
        return read_scores(path, study.imports.metrics)

    return _combined(study, settings, "scores", read, TABLES["imported_scores"])


def take_in(study: Study, settings: Settings, kind: Kind, path: Path) -> Path:
    """Check a file and keep its rows in the state folder, under the digest of its content; returns the copy.

    Losses on retired domains are not kept.

    Raises:
        InputError: the file is missing, unreadable or inconsistent, alone or with what was imported before.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    table = TABLES[f"imported_{kind}"]
    rows = read_bpb(path) if kind == "bpb" else read_scores(path, study.imports.metrics)
    rows = without_domains(rows.select(table.polars_schema.names()), retired_in(settings.retired_file))
    earlier = [file for file in import_files(study, settings, kind) if file.suffix == ".parquet"]
    copy = settings.imports / kind / f"{file_digest(path, settings.digests)[:32]}.parquet"
    others = {file: pl.read_parquet(file) for file in earlier if file != copy and file.parent == copy.parent}
    _check_lineage(others | {path: rows})
    # A copy from before a column was added lacks it.
    _check_unique(pl.concat([*others.values(), rows], how="diagonal"), table, str(path))
    replace_parquet(copy, rows)
    return copy


def without_domains(rows: pl.DataFrame, retired: Retired) -> pl.DataFrame:
    """The rows of all domains but the retired ones; rows of a table that knows no domains stay as they are."""
    if "domain" not in rows.columns:
        return rows
    return rows.filter(~pl.col("domain").is_in(retired.among(rows["domain"])))


def _combined(
    study: Study, settings: Settings, kind: Kind, read: Callable[[Path], pl.DataFrame], table: Table
) -> pl.DataFrame:
    files = import_files(study, settings, kind)
    if not files:
        return table.polars_schema.to_frame()
    retired = retired_in(settings.retired_file)
    parts = {path: without_domains(read(path).select(table.polars_schema.names()), retired) for path in files}
    _check_lineage(parts)
    rows = pl.concat(parts.values()).unique(maintain_order=True)
    _check_unique(rows, table, ", ".join(path.name for path in files))
    return rows


def _check_lineage(rows_of: Mapping[Path, pl.DataFrame]) -> None:
    """Refuse files that mean two models by one slug."""
    check_lineage(
        pl.concat(rows.select(LINEAGE).with_columns(stated_by=pl.lit(str(path))) for path, rows in rows_of.items())
    )


def _check_unique(rows: pl.DataFrame, table: Table, where: str) -> None:
    """Refuse two values for one thing; the same row in two files, as two exports of a site have it, is one."""
    rows = rows.unique()
    repeated = rows.filter(pl.struct(table.keys).is_duplicated())
    if repeated.height:
        raise InputError(f"{where}: {repeated.select(table.keys).row(0, named=True)} stands twice, expected once")
