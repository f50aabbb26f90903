"""The proof of absence: every table and artefact of the state folder, what it is, and how many traces it holds."""

import hashlib
from pathlib import Path
from typing import Any

from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.retirement.purge import parts_of
from ppl_assets.retirement.traces import TEXT_FOLDERS, Traces, in_file, in_parquet
from ppl_assets.warehouse import published_tables

_NOT_COVERED = (
    "files outside the state folder: the study's source and the files that it imports, exports, copies, backups",
    "what a disk or a file system keeps of deleted files",
    "the event log of a Dagster instance of your own (DAGSTER_HOME)",
    "weights of models that this study did not train: what they were trained on is not known here",
)


def searched(workspace: Workspace, traces: Traces) -> dict[str, Any]:
    """What was searched and found, as JSON can hold it: ``tables``, ``published_tables`` and ``artefacts``."""
    settings, lake = workspace.settings, workspace.lake
    tables: list[dict[str, Any]] = []
    paths_of_tables: set[Path | str] = set()
    for table, partition in parts_of(lake):
        path, footer = lake.path(table, partition), lake.footer(table, partition)
        assert footer is not None, f"{path} was made anew"
        paths_of_tables.add(path)
        tables.append(
            {
                "table": table,
                "partition": partition,
                "rows": lake.read(table, partition).height,
                "fingerprint": footer.fingerprint,
                "data_version": footer.data_version,
                "traces": in_parquet(traces, lake.content(table, partition)),
            }
        )
    published = [
        {"table": name, "rows": frame.height, "traces": traces.in_table(frame)}
        for name, frame in published_tables(settings.warehouse_file).items()
    ]
    own_records = {settings.retired_file, *settings.retiring.glob("*")}
    artefacts = [
        {
            "file": path.relative_to(settings.state).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "traces": in_file(traces, path, named=path.relative_to(settings.state).parts[0] not in TEXT_FOLDERS),
        }
        for path in _other_files(settings.state, paths_of_tables | own_records)
    ]
    return {"tables": tables, "published_tables": published, "artefacts": artefacts}


def found_in(proof: dict[str, Any]) -> list[str]:
    """Where traces are left."""
    places = [*proof["tables"], *proof["published_tables"], *proof["artefacts"]]
    return [str(place.get("file") or place["table"]) for place in places if place["traces"]]


def not_covered(workspace: Workspace) -> list[str]:
    """What the proof says nothing about."""
    own = set(workspace.study.zoo_slugs())
    folders = workspace.settings.models
    left = sorted(path.name for path in folders.iterdir() if path.name not in own) if folders.is_dir() else []
    return [*_NOT_COVERED, *(f"models/{name}: weights of a run that the study no longer has" for name in left)]


def _other_files(state: Path, without: set[Path | str]) -> list[Path]:
    return sorted(path for path in state.rglob("*") if path.is_file() and path not in without)
