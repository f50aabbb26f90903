"""Certificates as files, for people and programs that open no table: one JSON file per target and selected domain.

Where the evidence carries no choice the mixture is the pool: nothing was selected, and there are no files.
"""

import json
from pathlib import Path

import polars as pl

from ppl_assets.export.blend import file_name
from ppl_assets.warehouse.files import replace_file


def certificate_files(folder: Path, certificates: pl.DataFrame) -> dict[Path, str]:
    """Path and content for the rows of ``certificates``: ``<target>/<name of the domain>.json``."""
    selected = certificates.filter(pl.col("decision") != "fallback").select("target", "domain", "certificate")
    return {folder / target / f"{file_name(domain)}.json": text for target, domain, text in selected.iter_rows()}


def write_certificates(folder: Path, certificates: pl.DataFrame) -> None:
    """Make `folder` hold the certificates of these rows and no others; each file appears whole or not at all.

    Raises:
        InputError: the disk is full or the folder not writable.
    """
    files = certificate_files(folder, certificates)
    for path, text in files.items():
        _replace(path, json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n")
    for left in set(folder.glob("*/*.json")) - set(files):
        left.unlink()


def _replace(path: Path, content: str) -> None:
    # Milliseconds a file to sync, and a run changes few of thousands.
    if not path.is_file() or path.read_bytes() != content.encode():
        replace_file(path, content)
