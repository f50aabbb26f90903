"""The source in parts that are read one by one, in any order and side by side: files, packages, or a whole dataset.

Every part has an identity that changes whenever its pages can have changed, so that what was computed from the others
is kept. A dataset of the hub is one part: the rows of it are numbered from the first one on.
"""

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from ppl_assets.corpus.fingerprint import source_fingerprint
from ppl_assets.corpus.pages import Page, Rejection
from ppl_assets.corpus.python_packages import package_pages
from ppl_assets.corpus.rows import dataset_pages, file_pages
from ppl_assets.corpus.sources import corpus_of
from ppl_assets.retired import Retired
from ppl_assets.study.schema import Files, PythonPackages, Study


def source_parts(study: Study, cache: Path) -> dict[str, Any]:
    """The parts of the study's source by name, in order, with the identity of each as JSON can hold it.

    `cache` is the folder of remembered file digests.

    Raises:
        InputError: a file of the study is missing.
    """
    source, identity = corpus_of(study).source, source_fingerprint(study, cache)
    if isinstance(source, PythonPackages):
        return {package: [identity["python"], found] for package, found in identity["packages"].items()}
    if isinstance(source, Files):
        return {file["name"]: file for file in identity["files"]}
    return {source.dataset: identity}


def read_part(
    study: Study, part: str, *, retired: Retired, wanted: Container[str] | None = None
) -> Iterator[Page | Rejection]:
    """The pages of one part, with the ids that `read_pages` gives them and in the same order.

    Of `retired` domains there is nothing. `wanted` are page ids that the caller is after, as in `read_pages`.

    Raises:
        InputError: as `read_pages` does.
    """
    pages = _pages(study, part, wanted)
    return (page for page in pages if page.domain not in retired)


def _pages(study: Study, part: str, wanted: Container[str] | None) -> Iterator[Page | Rejection]:
    corpus = corpus_of(study)
    source = corpus.source
    if isinstance(source, PythonPackages):
        return package_pages((part,), max_page_bytes=corpus.max_page_bytes, wanted=wanted)
    if isinstance(source, Files):
        return file_pages(source, study, part=part)
    return dataset_pages(source, study)
