"""Python packages -> pages: text that every installation holds, for studies without data of their own.

A package makes two domains, ``<package>/prose`` and ``<package>/code``, and each of its files up to one page in each:
the docstrings, and the source without them. Markdown and reStructuredText files and the description of the
distribution are prose. Packages are found, never imported. What is installed decides what the text is: two machines
agree only where versions do.
"""

import os
import sysconfig
import tokenize
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

from ppl_assets.corpus.docstrings import split_docstrings
from ppl_assets.corpus.pages import Page, Rejection, text_rejection

_LONGEST_LICENSE_NAME = 100
_PROSE_SUFFIXES = (".md", ".rst")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFile:
    """A file of a package; `name` is its path relative to site-packages or the standard library, with slashes."""

    name: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """Who made a package, and its terms."""

    distributions: tuple[metadata.Distribution, ...]
    license: str | None
    maker: str | None


def package_pages(
    packages: tuple[str, ...], *, max_page_bytes: int, wanted: Container[str] | None = None
) -> Iterator[Page | Rejection]:
    """Pages of the packages that are installed, in the order given, files by name.

    A file longer than `max_page_bytes` is rejected unread, for both kinds; so is one that is not UTF-8 (or what its
    coding line says) or does not parse. Its bytes are counted for the code alone.
    """
    for package in packages:
        origin = _origin(package)
        for file in package_files(package):
            if wanted is not None and not any(f"{package}/{kind}:{file.name}" in wanted for kind in ("prose", "code")):
                continue
            for kind, text in _parts(file, max_page_bytes).items():
                yield _page(package, kind, file, text, origin)
        for distribution in origin.distributions:
            yield from _description(package, distribution, origin)


def package_files(package: str) -> list[PackageFile]:
    """The package's Python, Markdown and reStructuredText files by name; none where it is not installed."""
    found = {
        path.relative_to(root).as_posix(): path
        for root, top in _locations(package)
        for path in (_walk(top) if top.is_dir() else [top])
    }
    files = [(name, path) for name, path in sorted(found.items()) if path.is_file()]
    return [PackageFile(name=name, path=path, size=path.stat().st_size) for name, path in files]


def package_versions(package: str) -> dict[str, str]:
    """Versions of the distributions that install the package; the standard library's is Python's own."""
    return {_name(distribution): distribution.version for distribution in _origin(package).distributions}


def _locations(package: str) -> list[tuple[Path, Path]]:
    """Folder that names are relative to, and the package's folder or only file; no finder of others is run."""
    spec = None if "." in package else PathFinder.find_spec(package)
    if spec is None:
        return []
    tops = list(spec.submodule_search_locations or ([spec.origin] if spec.has_location and spec.origin else []))
    paths = [Path(top).absolute() for top in tops]
    return [(path.parent, path) for path in paths if path.is_dir() or path.suffix == ".py"]


def _walk(top: Path) -> Iterator[Path]:
    """Files below a folder that hold text; links to other folders are not followed."""
    for folder, _, names in os.walk(top):
        if Path(folder).name != "__pycache__":
            yield from (Path(folder, name) for name in names if name.endswith((".py", *_PROSE_SUFFIXES)))


def _parts(file: PackageFile, max_page_bytes: int) -> dict[str, str | tuple[str, int]]:
    """Text of a file by kind, or the reason why there is none and its bytes."""
    kinds = ("prose",) if file.name.endswith(_PROSE_SUFFIXES) else ("code", "prose")

    def rejected(reason: str) -> dict[str, str | tuple[str, int]]:
        return {kind: (reason, file.size if kind == kinds[0] else 0) for kind in kinds}

    if file.size > max_page_bytes:
        return rejected("too_long")
    try:
        if kinds == ("prose",):
            return {"prose": file.path.read_text(encoding="utf-8")}
        with tokenize.open(file.path) as opened:
            source = opened.read()
        prose, code = split_docstrings(source)
    except (UnicodeDecodeError, SyntaxError):
        return rejected("not_utf8")  # tokenize.open raises a SyntaxError for a coding line that it does not know
    except (ValueError, RecursionError):
        return rejected("not_parsable")
    return {"code": code, "prose": prose}


def _page(package: str, kind: str, file: PackageFile, text: str | tuple[str, int], origin: _Origin) -> Page | Rejection:
    """One page, or the rejection that stands for it."""
    page_id, domain = f"{package}/{kind}:{file.name}", f"{package}/{kind}"
    rejected = text if isinstance(text, tuple) else text_rejection(text)
    if isinstance(text, tuple) or rejected:
        reason, n_bytes = rejected or ("empty", 0)
        return Rejection(page_id=page_id, domain=domain, reason=reason, bytes=n_bytes)
    return Page(
        page_id=page_id,
        domain=domain,
        text=text,
        domain_group=kind,
        language="python" if kind == "code" else "en",
        license=origin.license,
        maker=origin.maker,
        unit=file.name,
    )


def _description(package: str, distribution: metadata.Distribution, origin: _Origin) -> Iterator[Page]:
    """The description of a distribution (its README, mostly) as a page of prose."""
    text = _field(distribution, "Description")
    if text_rejection(text) is None:
        name = f"{_name(distribution)}-{distribution.version}.dist-info/METADATA"
        yield Page(
            page_id=f"{package}/prose:{name}",
            domain=f"{package}/prose",
            text=text,
            domain_group="prose",
            language="en",
            license=origin.license,
            maker=origin.maker,
            unit=name,
        )


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    """Distributions by the top-level name that they install; reading them takes some tenths of a second."""
    return {name: sorted(set(found)) for name, found in metadata.packages_distributions().items()}


def _origin(package: str) -> _Origin:
    """Licence and maker, as the distributions state them."""
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    if any(root.resolve() == standard for root, _ in _locations(package)):
        return _Origin(distributions=(), license="PSF-2.0", maker="Python Software Foundation")
    found = tuple(metadata.distribution(name) for name in _distributions().get(package, []))
    licenses = sorted({stated for one in found if (stated := _license(one))})
    makers = sorted({stated for one in found if (stated := _maker(one))})
    return _Origin(distributions=found, license="; ".join(licenses) or None, maker="; ".join(makers) or None)


def _name(distribution: metadata.Distribution) -> str:
    return str(distribution.metadata["Name"])


def _field(distribution: metadata.Distribution, *names: str) -> str:
    """The first of these metadata fields that is stated; empty where none is."""
    stated = [value for name in names for value in distribution.metadata.get_all(name) or []]
    return next((value.strip() for value in stated if value.strip()), "")


def _license(distribution: metadata.Distribution) -> str | None:
    """The licence expression, else the licence field where it is a name and not a text, else the classifiers."""
    stated = _field(distribution, "License-Expression", "License")
    if stated and "\n" not in stated and len(stated) <= _LONGEST_LICENSE_NAME:
        return stated
    classifiers = distribution.metadata.get_all("Classifier") or []
    names = [line.split("::")[-1].strip() for line in classifiers if line.startswith("License ::")]
    return "; ".join(names) or None


def _maker(distribution: metadata.Distribution) -> str | None:
    """The author, else the author's address line."""
    return " ".join(_field(distribution, "Author", "Author-email").split()) or None
