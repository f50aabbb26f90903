"""The identity of a study's source: it changes whenever the pages can have changed, and never otherwise.

Files are named by the digest of their content. Packages are named by versions and by the names and sizes of their
files; an edit of an installed package that keeps a file's size is not seen. A dataset is named by its pinned revision;
of a branch's name it is not known whether the branch moved.
"""

import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from ppl_assets.corpus.python_packages import package_files, package_versions
from ppl_assets.corpus.rows import source_files
from ppl_assets.corpus.sources import corpus_of
from ppl_assets.progress import Progress, Report
from ppl_assets.study.schema import Files, PythonPackages, Study
from ppl_assets.warehouse.file_digest import file_digest


def source_fingerprint(study: Study, cache: Path, *, progress: Report | None = None) -> dict[str, Any]:
    """The source's identity, as JSON can hold it.

    `cache` is the folder of remembered file digests: what did not change by size, time and inode is not read again.

    Raises:
        InputError: a file of the study is missing.
    """
    source = corpus_of(study).source
    if isinstance(source, PythonPackages):
        return {
            "kind": source.kind,
            "python": platform.python_version(),
            "packages": {package: _package(package) for package in source.packages},
        }
    if isinstance(source, Files):
        return {"kind": source.kind, "files": _digests(source_files(source, study), cache, progress)}
    folder = study.path(source.dataset)
    identity: dict[str, Any] = source.model_dump(include={"kind", "dataset", "revision", "subset", "split"})
    if folder.is_dir():
        files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
        identity["files"] = _digests(files, cache, progress)
    return identity


def _package(package: str) -> dict[str, Any]:
    """Versions, and a digest of the files' names and sizes."""
    files = [(file.name, file.size) for file in package_files(package)]
    digest = hashlib.sha256(json.dumps(files).encode("utf-8")).hexdigest()
    return {"versions": package_versions(package), "files": len(files), "digest": digest}


def _digests(files: Sequence[tuple[str, Path]], cache: Path, progress: Report | None) -> list[dict[str, str | int]]:
    """Name, size and SHA-256 of each file."""
    sizes = [path.stat().st_size for _, path in files]
    done, began, digests = 0, monotonic(), list[dict[str, str | int]]()
    for (name, path), size in zip(files, sizes, strict=True):
        digests.append({"name": name, "bytes": size, "sha256": file_digest(path, cache)})
        done += size
        if progress:
            progress(Progress(done=done, total=sum(sizes), unit="bytes", seconds=monotonic() - began))
    return digests
