"""Sampled pages with their texts: a second pass over the source, and near duplicates removed within and across splits.

Only sampled pages are compared, which is all that the pool is trained on, scored and tested with. Whether the rest of
the source holds near duplicates of them is not known: a selection takes pages from all of it, and among them may be
some that nearly repeat a benchmark page.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic

import polars as pl

from ppl_assets.corpus.catalog import Catalog, count_rejections
from ppl_assets.corpus.near_duplicates import near_duplicates
from ppl_assets.corpus.pages import Page, Rejection
from ppl_assets.corpus.sources import corpus_of
from ppl_assets.corpus.splits import SPLIT_PRIORITY, text_digest
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
    pages: Iterable[Page | Rejection], catalog: Catalog, study: Study, *, progress: Report | None = None
) -> SampledPages:
    """The pages that `catalog` sampled, from the same source, without near duplicates.

    Of two near duplicates the one in the split of higher priority stays (scoring, benchmark, training), then the one
    that is sampled first.

    Raises:
        InputError: a sampled page is no longer there, or its text is another: the source changed between the passes.
    """
    priority = pl.col("split").replace_strict({name: rank for rank, name in enumerate(SPLIT_PRIORITY)})
    found = _with_texts(pages, catalog.sample, study, progress).sort(priority, "order", "page_id")
    gone = near_duplicates(found["text"].to_list(), corpus_of(study).near_duplicate_similarity)
    dropped = found[[goes for goes, _, _ in gone]]
    kept = found[[stays for _, stays, _ in gone]]
    return SampledPages(
        pages=found.join(dropped, on="page_id", how="anti")
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


def _with_texts(
    pages: Iterable[Page | Rejection], sample: pl.DataFrame, study: Study, progress: Report | None
) -> pl.DataFrame:
    """The sample with a column `text`."""
    rows = sample.select("page_id", "domain", "digest").rows()
    wanted = {(page_id, domain): digest for page_id, domain, digest in rows}
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
    return sample.with_columns(text=pl.Series([texts[key] for key in wanted], dtype=pl.String))
