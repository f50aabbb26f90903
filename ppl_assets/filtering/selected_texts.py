"""The texts of selected pages, read from the source again: stored are only their names and numbers, unless the study
asks for more."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import polars as pl

from ppl_assets.corpus import Page, read_part, source_parts, text_digest
from ppl_assets.errors import InputError
from ppl_assets.filtering.page_scores import part_key, runs
from ppl_assets.retired import Retired
from ppl_assets.study.schema import Study
from ppl_assets.warehouse import Lake, replace_parquet

_NONE = Retired()
_KEYS, _WITH_TEXT = ("target", "arm"), ("page_id", "domain", "score", "tokens", "text")


def selected_texts(
    study: Study, lake: Lake, digests: Path, target: str, arm: str, *, retired: Retired = _NONE
) -> Iterator[tuple[str, str, str]]:
    """Page id, domain and text of the pages that an arm selects for a target, each once, in the order of the source.

    Held at a time are the ids of one part of the source, a file or package.

    Args:
        lake: with tables ``selected_pages`` and ``page_scores``.
        digests: folder of remembered file digests.

    Raises:
        InputError: the arm selects nothing for the target, or a page is gone from the source or has another text.
    """
    own = (pl.col("target") == target) & (pl.col("arm") == arm)

    def ids_of(shard: str) -> pl.DataFrame:
        return lake.read("selected_pages", shard).filter(own).select("page_id")

    found = False
    for page in page_texts(study, lake, digests, lake.partitions("selected_pages"), ids_of, retired=retired):
        found = True
        yield page
    if not found:
        raise InputError(f"arm {arm!r} selects no page for target {target!r}; see the table selections")


def page_texts(
    study: Study,
    lake: Lake,
    digests: Path,
    shards: Iterable[str],
    ids_of: Callable[[str], pl.DataFrame],
    *,
    retired: Retired = _NONE,
) -> Iterator[tuple[str, str, str]]:
    """Page id, domain and text of pages of ``page_scores``, as `selected_texts`.

    Args:
        ids_of: the wanted pages of a shard, as a frame of page ids.
    """
    shards_of: dict[str, list[str]] = {}
    for shard in shards:
        shards_of.setdefault(shard.partition("-")[0], []).append(shard)
    for part in source_parts(study, digests):
        wanted = _wanted(lake, shards_of.get(part_key(part), []), ids_of)
        if not wanted:
            continue
        for page in read_part(study, part, retired=retired, wanted=wanted):
            if isinstance(page, Page) and wanted.get(page.page_id) == text_digest(page.text):
                del wanted[page.page_id]
                yield page.page_id, page.domain, page.text
        if wanted:
            raise InputError(
                f"study {study.name!r}, corpus.source: selected page {min(wanted)!r} is gone or has another text "
                f"({len(wanted)} such pages): the source has changed; run selected_pages again"
            )


def write_texts(study: Study, lake: Lake, digests: Path, folder: Path, *, retired: Retired = _NONE) -> None:
    """Write the selected pages with their texts to `folder`/<target>/<arm>/<shard>.parquet: one file per shard.

    Columns are page_id, domain, score, tokens and text. What stood in `folder` goes. One shard is held at a time.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for part in source_parts(study, digests):
        for number, run in enumerate(runs(read_part(study, part, retired=retired))):
            shard = f"{part_key(part)}-{number:05d}"
            selected = lake.read("selected_pages", shard)
            digest = _digests(lake, shard, selected.select("page_id"))
            found = [
                (page.page_id, page.text)
                for page in run
                if isinstance(page, Page) and digest.get(page.page_id) == text_digest(page.text)
            ]
            texts = pl.DataFrame(found, schema={"page_id": pl.String, "text": pl.String}, orient="row")
            rows = selected.join(texts.unique("page_id"), on="page_id").select(*_KEYS, *_WITH_TEXT)
            for (target, arm), own in rows.partition_by(_KEYS, as_dict=True, include_key=False).items():
                replace_parquet(folder / str(target) / str(arm) / f"{shard}.parquet", own.sort("page_id"))


def _wanted(lake: Lake, shards: Iterable[str], ids_of: Callable[[str], pl.DataFrame]) -> dict[str, bytes]:
    """Ids of wanted pages with the digests of their texts."""
    wanted: dict[str, bytes] = {}
    for shard in shards:
        wanted |= _digests(lake, shard, ids_of(shard))
    return wanted


def _digests(lake: Lake, shard: str, pages: pl.DataFrame) -> dict[str, bytes]:
    """Digests of the texts of a shard's selected pages."""
    # Where an id stands twice, the first by text is the page (see sql/page_duplicates.sql).
    scored = lake.read("page_scores", shard).join(pages, on="page_id", how="semi").sort("digest", descending=True)
    return dict(scored.select("page_id", "digest").iter_rows())
