"""How much text each model would be asked: counted where chunks are there, sampled in memory where the source is local,
and what the study expects where it is neither."""

from dataclasses import dataclass

import polars as pl

from ppl_assets.corpus.catalog import catalog
from ppl_assets.corpus.chunking import chunk_pages
from ppl_assets.corpus.sampling import collect
from ppl_assets.corpus.sources import read_pages
from ppl_assets.errors import InputError
from ppl_assets.progress import Report
from ppl_assets.retired import Retired
from ppl_assets.study import Study

_NO_PAGES = pl.DataFrame(schema={"page_id": pl.String, "domain": pl.String, "split": pl.String, "text": pl.String})


@dataclass(frozen=True, kw_only=True, eq=False)
class TextSize:
    """Chunks and reference tokens that every model is scored on, and how that is known.

    `pages` and `rows` are the sampled pages and the chunks themselves, where they are at hand.
    """

    chunks: int
    tokens: int
    basis: str
    pages: pl.DataFrame
    rows: pl.DataFrame


def stored_text(chunks: pl.DataFrame, pages: pl.DataFrame) -> TextSize:
    """Of chunks that have been cut."""
    return TextSize(
        chunks=chunks.height,
        tokens=int(chunks["tokens"].sum()),
        basis="the chunks that are there",
        pages=pages,
        rows=chunks,
    )


def expected_text(study: Study) -> TextSize:
    """Of what the study expects.

    Raises:
        InputError: it says nothing of it.
    """
    corpus = study.corpus
    if corpus is None or corpus.expected is None:
        raise InputError(
            f"study {study.name!r}: its source is not at hand and not sampled yet; expected its size in "
            "corpus.expected (domains, tokens_per_page), or run the assets up to corpus_chunks first"
        )
    expected, per_domain = corpus.expected, corpus.splits.scoring.pages_per_domain
    pages = expected.domains * per_domain
    return TextSize(
        chunks=round(pages * expected.tokens_per_page / corpus.chunk_tokens),
        tokens=pages * expected.tokens_per_page,
        basis=f"{expected.domains:,} domains of {per_domain} pages of {expected.tokens_per_page:,} reference tokens, "
        "as the study expects",
        pages=_NO_PAGES,
        rows=pl.DataFrame(),
    )


def sampled_text(study: Study, retired: Retired, *, progress: Report | None = None) -> TextSize:
    """Of a local source, sampled as a run would, and kept in memory alone."""
    found = catalog(read_pages(study, retired=retired), study, progress=progress)
    wanted = set(found.sample["page_id"])
    pages = collect(read_pages(study, wanted=wanted, retired=retired), found, study, progress=progress).pages
    scoring = pages.filter(pl.col("split") == "scoring")
    chunks = chunk_pages(scoring, study)
    size = stored_text(chunks, pages)
    return TextSize(
        chunks=size.chunks, tokens=size.tokens, basis="a sample of the source, made for this", pages=pages, rows=chunks
    )


def is_local(study: Study) -> bool:
    """Whether the source can be read without a network."""
    return study.corpus is not None and study.corpus.source.kind != "huggingface"
