"""Source -> pages: every source of a study as one stream of pages and rejections.

Memory stays flat: files are read line by line or batch by batch, a dataset is streamed, packages are read file by file.
The longest line of a JSONL file and one batch of a Parquet file are what is held at once.
"""

from collections.abc import Container, Iterator

from ppl_assets.corpus.pages import Page, Rejection
from ppl_assets.corpus.python_packages import package_pages
from ppl_assets.corpus.rows import dataset_pages, file_pages
from ppl_assets.errors import InputError
from ppl_assets.retired import Retired
from ppl_assets.study.schema import Corpus, Files, PythonPackages, Study

_NONE = Retired()


def read_pages(
    study: Study, *, wanted: Container[str] | None = None, retired: Retired = _NONE
) -> Iterator[Page | Rejection]:
    """The pages of the study's source, in an order that depends on nothing but the source.

    Of `retired` domains there is nothing, not even a rejection.

    `wanted` are page ids that the caller is after: a source that knows a page's id before its text saves the work for
    the others. It may yield more than the wanted ones.

    Raises:
        InputError: a missing file, column or dataset, a pattern without a match, unreadable or truncated Parquet or
            JSONL, text in a file that is not UTF-8; with file and line or row.
    """
    pages = _all_pages(study, wanted)
    return (page for page in pages if page.domain not in retired) if retired.patterns else pages


def _all_pages(study: Study, wanted: Container[str] | None) -> Iterator[Page | Rejection]:
    corpus = corpus_of(study)
    source = corpus.source
    if isinstance(source, PythonPackages):
        return package_pages(source.packages, max_page_bytes=corpus.max_page_bytes, wanted=wanted)
    if isinstance(source, Files):
        return file_pages(source, study)
    return dataset_pages(source, study)


def corpus_of(study: Study) -> Corpus:
    """The study's corpus, which a study of imported scores lacks.

    Raises:
        InputError: the study has none.
    """
    if study.corpus is None:
        raise InputError(f"study {study.name!r} has no 'corpus'; expected one where pages are read")
    return study.corpus
