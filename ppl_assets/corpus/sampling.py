"""Sampled pages with their texts: a second pass over the source, and near duplicates removed within and across splits.

Only sampled pages are compared: whether the rest of the source holds near duplicates is not known, and does not matter
to what is trained on, scored and tested.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic

import polars as pl

from ppl_assets.corpus.catalog import count_rejections
from ppl_assets.corpus.chunking import reference_counter
from ppl_assets.corpus.near_duplicates import near_duplicates
from ppl_assets.corpus.pages import Page, Rejection
from ppl_assets.corpus.sources import corpus_of
from ppl_assets.corpus.splits import SPLIT_PRIORITY, sampling_order, text_digest
from ppl_assets.errors import InputError
from ppl_assets.progress import Progress, Report
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledPages:
    """What the second pass found.

    `pages` is the table of that name. `rejections` are rows for ``page_rejections``: sampled pages that were near
    duplicates. `near_duplicates` lists them: page_id, domain, split, kept_page_id, kept_split, similarity; different
    splits are text across the split.
    """

    pages: pl.DataFrame
    rejections: pl.DataFrame
    near_duplicates: pl.DataFrame


def collect(
    pages: Iterable[Page | Rejection], sample: pl.DataFrame, study: Study, *, progress: Report | None = None
) -> SampledPages:
    """The pages of a catalogue's `sample` (page_id, domain, split, digest), from the same source, less near duplicates.

    Of two near duplicates the one in the split of higher priority stays (scoring, benchmark, training), then the one
    that is sampled first.

    Raises:
        InputError: a sampled page is no longer there, or its text is another: the source changed between the passes.
    """
    found = _in_priority(_with_texts(pages, sample, study, progress), study.seed)
    gone = near_duplicates(found["text"].to_list(), corpus_of(study).near_duplicate_similarity)
    tokens = reference_counter(study).count(found["text"].to_list())
    dropped = found[[goes for goes, _, _ in gone]]
    kept = found[[stays for _, stays, _ in gone]]
    return SampledPages(
        pages=found.with_columns(tokens=pl.Series(tokens, dtype=pl.Int64))
        .join(dropped, on="page_id", how="anti")
        .select(TABLES["pages"].polars_schema.names())
        .sort("domain", "split", "page_id"),
        rejections=count_rejections(dropped, "near_duplicate").sort("domain"),
        near_duplicates=dropped.select(
            "page_id",
            "domain",
            "split",
            kept_page_id=kept["page_id"],
            kept_split=kept["split"],
            similarity=pl.Series([similarity for _, _, similarity in gone], dtype=pl.Float64),
        ).sort("page_id"),
    )


def _in_priority(found: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Pages in the order in which one stays before another."""
    split = pl.col("split").replace_strict({name: rank for rank, name in enumerate(SPLIT_PRIORITY)})
    order = pl.Series([sampling_order(page_id, seed) for page_id in found["page_id"]], dtype=pl.Int64)
    return found.sort(split, order, "page_id")


def _with_texts(
    pages: Iterable[Page | Rejection], sample: pl.DataFrame, study: Study, progress: Report | None
) -> pl.DataFrame:
    """The sample with the columns `text` and `bytes`."""
    rows = sample.select("page_id", "domain", "digest").rows()
    wanted = {(page_id, domain): bytes.fromhex(digest) for page_id, domain, digest in rows}
    texts: dict[tuple[str, str], str] = {}
    began = monotonic()
    for page in pages:
        key = (page.page_id, page.domain)
        if isinstance(page, Page) and key in wanted and key not in texts and text_digest(page.text) == wanted[key]:
            texts[key] = page.text
            if progress:
                progress(Progress(done=len(texts), total=len(wanted), unit="pages", seconds=monotonic() - began))
        if len(texts) == len(wanted):
            break
    missing = sorted(wanted.keys() - texts.keys())
    if missing:
        page_id, domain = missing[0]
        raise InputError(
            f"study {study.name!r}, corpus.source: page {page_id!r} of domain {domain!r} is gone or has another text "
            f"({len(missing)} such pages): the source changed while it was read"
        )
    text = pl.Series([texts[key] for key in wanted], dtype=pl.String)
    return sample.select("page_id", "domain", "split", text=text, bytes=text.str.len_bytes().cast(pl.Int64))
