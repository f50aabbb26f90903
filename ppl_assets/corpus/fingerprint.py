"""The identity of a study's source: it changes whenever the pages can have changed, and never otherwise.

Files are named by the digest of their content. Packages are named by versions and by the names and sizes of their
files; an edit of an installed package that keeps a file's size is not seen. A dataset is named by its pinned revision;
of a branch's name it is not known whether the branch moved.
"""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import Any

from ppl_assets.corpus.python_packages import package_files, package_versions
from ppl_assets.corpus.rows import source_files
from ppl_assets.corpus.sources import corpus_of
from ppl_assets.progress import Progress, Report
from ppl_assets.study.schema import Files, PythonPackages, Study

_BLOCK_BYTES = 2**22


def source_fingerprint(study: Study, *, cache: Path | None = None, progress: Report | None = None) -> dict[str, Any]:
    """The source's identity, as JSON can hold it.

    `cache` is a file of digests by path, size, time of modification and inode: what did not change by these is not
    read again.

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
        files = source_files(source, study)
        return {"kind": source.kind, "files": _digests(files, cache, progress)}
    folder = study.path(source.dataset)
    identity: dict[str, Any] = source.model_dump(include={"kind", "dataset", "revision", "subset", "split"})
    if folder.is_dir():
        files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
        identity["files"] = _digests(files, cache, progress)
    return identity


def _package(package: str) -> dict[str, Any]:
    """Versions and a digest of the files' names and sizes."""
    files = [(file.name, file.size) for file in package_files(package)]
    digest = hashlib.sha256(json.dumps(files).encode("utf-8")).hexdigest()
    return {"versions": package_versions(package), "files": len(files), "digest": digest}


def _digests(
    files: Iterable[tuple[str, Path]], cache: Path | None, progress: Report | None
) -> list[dict[str, str | int]]:
    """Name, size and sha256 of each file."""
    known: dict[str, str] = _read_cache(cache)
    stats = [(name, path, path.stat()) for name, path in files]
    total, done, began = sum(stat.st_size for _, _, stat in stats), 0, monotonic()
    current: dict[str, str] = {}
    for _, path, stat in stats:
        key = f"{path.absolute()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}"
        current[key] = known.get(key) or _sha256(path)
        done += stat.st_size
        if progress:
            progress(Progress(done=done, total=total, unit="bytes", seconds=monotonic() - began))
    if cache and current.items() - known.items():
        _write_cache(cache, known | current)
    return [
        {"name": name, "bytes": stat.st_size, "sha256": digest}
        for (name, _, stat), digest in zip(stats, current.values(), strict=True)
    ]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _read_cache(cache: Path | None) -> dict[str, str]:
    """Digests known from earlier; a cache that cannot be read costs time and nothing else."""
    if cache is None or not cache.is_file():
        return {}
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _write_cache(cache: Path, digests: dict[str, str]) -> None:
    """Put the cache in place at once, so that a reader or a crash never meets half of it."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=cache.parent, delete=False) as file:
        json.dump(digests, file)
    os.replace(file.name, cache)
