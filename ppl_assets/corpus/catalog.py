"""Pages -> what each domain holds, why pages were left out, and which pages are sampled: one pass over the source.

Counts are of the whole source, because a cap needs what is there and not what was sampled. A page is either usable and
counted in its domain, or left out and counted under the first of these reasons that applies: what the source says
(``null``, ``empty``, ``not_utf8``, ``no_domain``, ``not_parsable``), ``denied`` by policy, ``too_short``,
``too_long``, ``duplicate_id``, ``exact_duplicate``, ``too_few_pages`` in its domain.

The sample is the N usable pages of each domain and split with the smallest seeded hash of their id: it depends neither
on the order of the source nor on the other domains. Of pages with one text the one in the split of highest priority
stays, and among those the one with the smallest hash.

Memory: texts are let go at once; a page that passes the first tests leaves its id, a 128-bit digest of its text and a
few numbers, about 150 bytes.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from time import monotonic

import polars as pl

from ppl_assets.corpus.chunking import TokenCounter, reference_counter
from ppl_assets.corpus.pages import Page, Rejection
from ppl_assets.corpus.policy import decide_policy
from ppl_assets.corpus.sources import corpus_of
from ppl_assets.corpus.splits import SPLIT_PRIORITY, sampling_order, split_function, text_digest
from ppl_assets.errors import InputError
from ppl_assets.progress import Progress, Report
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Corpus, Splits, Study

# Texts held at once, until their tokens are counted: enough to keep a tokenizer's threads busy.
_BATCH_PAGES, _BATCH_CHARACTERS = 256, 4_000_000
_ATTRIBUTES = ("domain_group", "language", "license", "maker")
_SEEN_SCHEMA = {
    "page_id": pl.String,
    "domain": pl.String,
    "priority": pl.UInt8,
    "order": pl.Int64,
    "digest": pl.Binary,
    "bytes": pl.Int64,
    "tokens": pl.Int64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """What one pass over the source found.

    `domains` and `rejections` are the tables ``domains`` and ``page_rejections`` (without near duplicates, which need
    the sampled texts). `sample` is the table ``page_sample``. `duplicates` counts exact duplicates by the splits of the
    page that stays and the page that goes: kept_split, dropped_split, pages; different ones are text across the split.
    """

    domains: pl.DataFrame
    rejections: pl.DataFrame
    sample: pl.DataFrame
    duplicates: pl.DataFrame


@dataclass(slots=True, kw_only=True)
class _Pass:
    """What accumulates while the source goes by."""

    study: Study
    rejected: dict[tuple[str, str], tuple[int, int, str]] = field(default_factory=dict)
    attributes: dict[str, list[Counter[str | None]]] = field(default_factory=dict)
    decisions: dict[str, Counter[tuple[str, str | None]]] = field(default_factory=dict)
    pending: list[Page] = field(default_factory=list)
    pending_characters: int = 0
    frames: list[pl.DataFrame] = field(default_factory=list)

    def reject(self, page_id: str, domain: str, reason: str, n_bytes: int) -> None:
        """Count a page that is left out; the example is the first page in order of ids, whatever the source's order."""
        pages, total, example = self.rejected.get((domain, reason), (0, 0, page_id))
        self.rejected[domain, reason] = (pages + 1, total + n_bytes, min(example, page_id))

    def note(self, page: Page, decision: tuple[str, str | None]) -> None:
        """Count what a page says about its domain."""
        counters = self.attributes.setdefault(page.domain, [Counter() for _ in _ATTRIBUTES])
        for counter, attribute in zip(counters, _ATTRIBUTES, strict=True):
            counter[getattr(page, attribute)] += 1
        self.decisions.setdefault(page.domain, Counter())[decision] += 1


def catalog(pages: Iterable[Page | Rejection], study: Study, *, progress: Report | None = None) -> Catalog:
    """Catalogue a source.

    Raises:
        InputError: no page of the source is usable; the message counts the reasons.
    """
    found = _read(pages, study, progress)
    usable, dropped, duplicates = _without_duplicates(pl.concat([pl.DataFrame(schema=_SEEN_SCHEMA), *found.frames]))
    usable, too_few = _without_small_domains(usable, corpus_of(study).min_pages)
    rejections = _rejections(found, {**dropped, "too_few_pages": too_few})
    if usable.is_empty():
        reasons = rejections.group_by("reason").agg(pl.sum("pages")).sort("reason").rows()
        counts = ", ".join(f"{n_pages} {reason}" for reason, n_pages in reasons) or "nothing at all"
        raise InputError(f"study {study.name!r}, corpus.source: no usable page; found {counts}")
    return Catalog(
        domains=_domains(found, usable),
        rejections=rejections,
        sample=_sample(usable, corpus_of(study).splits),
        duplicates=duplicates,
    )


def _read(pages: Iterable[Page | Rejection], study: Study, progress: Report | None) -> _Pass:
    """The pass itself: every page is screened, and what is left of it is kept."""
    found, corpus, counter, began, done = _Pass(study=study), corpus_of(study), reference_counter(study), monotonic(), 0
    decide = lru_cache(maxsize=2**16)(partial(decide_policy, study.policy))
    reduce = partial(_reduced, split=split_function(corpus.splits, study.seed), counter=counter, seed=study.seed)
    for done, page in enumerate(pages, start=1):
        if isinstance(page, Rejection):
            found.reject(page.page_id, page.domain, page.reason, page.bytes)
        else:
            decision = decide(page.domain, page.license, page.language, page.maker)
            found.note(page, decision)
            n_bytes = len(page.text.encode("utf-8"))
            reason = "denied" if decision[0] == "deny" else length_reason(n_bytes, corpus)
            if reason:
                found.reject(page.page_id, page.domain, reason, n_bytes)
            else:
                found.pending.append(page)
                found.pending_characters += len(page.text)
        if found.pending_characters > _BATCH_CHARACTERS or len(found.pending) == _BATCH_PAGES:
            found.frames.append(reduce(found.pending))
            found.pending, found.pending_characters = [], 0
        if progress and done % _BATCH_PAGES == 0:
            progress(Progress(done=done, total=None, unit="pages", seconds=monotonic() - began))
    found.frames.append(reduce(found.pending))
    if progress:
        progress(Progress(done=done, total=done, unit="pages", seconds=monotonic() - began))
    return found


def length_reason(n_bytes: int, corpus: Corpus) -> str | None:
    """Why a page of so many UTF-8 bytes is left out (``too_short``, ``too_long``); None where it is not."""
    if n_bytes < corpus.min_page_bytes:
        return "too_short"
    return "too_long" if n_bytes > corpus.max_page_bytes else None


def _reduced(pages: list[Page], *, split: Callable[[Page], str], counter: TokenCounter, seed: int) -> pl.DataFrame:
    """What is kept of pages once their texts are let go."""
    texts = [page.text for page in pages]
    columns = {
        "page_id": [page.page_id for page in pages],
        "domain": [page.domain for page in pages],
        "priority": [SPLIT_PRIORITY.index(split(page)) for page in pages],
        "order": [sampling_order(page.page_id, seed) for page in pages],
        "digest": [text_digest(text) for text in texts],
        "bytes": [len(text.encode("utf-8")) for text in texts],
        "tokens": counter.count(texts),
    }
    return pl.DataFrame(columns, schema=_SEEN_SCHEMA)


def _without_duplicates(seen: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, pl.DataFrame], pl.DataFrame]:
    """Pages that stay, pages that go by reason, and exact duplicates by split; by sorting, so no order matters."""
    seen = seen.sort("page_id", "digest", "domain")
    repeated_id = pl.col("page_id") == pl.col("page_id").shift()
    same_id, unique = seen.filter(repeated_id), seen.filter(~repeated_id.fill_null(False))
    unique = unique.sort("digest", "priority", "order", "page_id")
    unique = unique.with_columns(repeated=(pl.col("digest") == pl.col("digest").shift()).fill_null(False))
    kept_priority = pl.when(~pl.col("repeated")).then("priority").forward_fill()
    same_text = unique.with_columns(kept_priority=kept_priority).filter("repeated")
    duplicates = (
        same_text.group_by(kept_split=_split_name("kept_priority"), dropped_split=_split_name("priority"))
        .agg(pages=pl.len().cast(pl.Int64))
        .sort("kept_split", "dropped_split")
    )
    usable = unique.filter(~pl.col("repeated")).drop("repeated")
    return usable, {"duplicate_id": same_id, "exact_duplicate": same_text}, duplicates


def _split_name(column: str) -> pl.Expr:
    return pl.col(column).replace_strict(dict(enumerate(SPLIT_PRIORITY)), return_dtype=pl.String)


def _without_small_domains(usable: pl.DataFrame, min_pages: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pages of domains with enough scoring pages, and the others."""
    scoring = (pl.col("priority") == SPLIT_PRIORITY.index("scoring")).sum().over("domain")
    return usable.filter(scoring >= min_pages), usable.filter(scoring < min_pages)


def _rejections(found: _Pass, dropped: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The table ``page_rejections``."""
    schema = TABLES["page_rejections"].polars_schema
    rows = [(domain, reason, *counts) for (domain, reason), counts in found.rejected.items()]
    return pl.concat(
        [
            pl.DataFrame(rows, schema=schema, orient="row"),
            *(count_rejections(pages, reason) for reason, pages in dropped.items()),
        ]
    ).sort("domain", "reason")


def count_rejections(pages: pl.DataFrame, reason: str) -> pl.DataFrame:
    """Rows of ``page_rejections`` for pages (page_id, domain, bytes) that are left out for one reason."""
    counted = pages.group_by("domain").agg(
        reason=pl.lit(reason),
        pages=pl.len().cast(pl.Int64),
        bytes=pl.sum("bytes"),
        example=pl.min("page_id"),
    )
    return counted.select(TABLES["page_rejections"].polars_schema.names())


def _domains(found: _Pass, usable: pl.DataFrame) -> pl.DataFrame:
    """The table ``domains``: those with usable pages, and those of which policy denies every page."""
    table = TABLES["domains"].polars_schema
    held = usable.group_by("domain").agg(pages=pl.len().cast(pl.Int64), bytes=pl.sum("bytes"), tokens=pl.sum("tokens"))
    rows = []
    for domain, decisions in found.decisions.items():
        policy = min(action for action, _ in decisions)  # 'allow' before 'deny': one allowed page is enough
        reasons = Counter({reason: pages for (action, reason), pages in decisions.items() if action == policy})
        facts = [_most_common(counter) for counter in found.attributes[domain]]
        rows.append((domain, *facts, policy, _most_common(reasons)))
    names = ("domain", *_ATTRIBUTES, "policy", "policy_reason")
    facts_of = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return (
        facts_of.join(held, on="domain", how="left")
        .filter(pl.col("pages").is_not_null() | (pl.col("policy") == "deny"))
        .with_columns(pl.col("pages", "bytes", "tokens").fill_null(0))
        .select(table.names())
        .sort("domain")
    )


def _most_common(counter: Counter[str | None]) -> str | None:
    """What most pages state; among equals the first in alphabetical order; None where no page states any."""
    stated = [(-pages, value) for value, pages in counter.items() if value is not None]
    return min(stated)[1] if stated else None


def _sample(usable: pl.DataFrame, splits: Splits) -> pl.DataFrame:
    """The first pages of each domain and split in the seeded order."""
    most = {priority: getattr(splits, name).pages_per_domain for priority, name in enumerate(SPLIT_PRIORITY)}
    place = pl.int_range(pl.len()).over("domain", "priority")
    return (
        usable.sort("domain", "priority", "order", "page_id")
        .filter(place < pl.col("priority").replace_strict(most, return_dtype=pl.Int64))
        .with_columns(split=_split_name("priority"))
        .select(TABLES["page_sample"].polars_schema.names())
    )
