"""Certificates as files, for people and programs that open no table: one JSON file per target and domain."""

import json
from pathlib import Path

import polars as pl

from ppl_assets.export.blend import file_name
from ppl_assets.warehouse.files import replace_file


def certificate_files(folder: Path, certificates: pl.DataFrame) -> list[Path]:
    """The file of every row of ``certificates``, in their order: ``<target>/<name of the domain>.json``."""
    names = certificates.select("target", "domain").iter_rows()
    return [folder / target / f"{file_name(domain)}.json" for target, domain in names]


def write_certificates(folder: Path, certificates: pl.DataFrame) -> None:
    """Make `folder` hold the certificates of these rows and no others; each file appears whole or not at all.

    Raises:
        InputError: the disk is full or the folder not writable.
    """
    files = certificate_files(folder, certificates)
    for path, text in zip(files, certificates["certificate"], strict=True):
        replace_file(path, json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n")
    for left in set(folder.glob("*/*.json")) - set(files):
        left.unlink()
