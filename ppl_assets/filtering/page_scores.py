"""Pages of the source -> rows of ``page_scores``: every page read once, in parts side by side, in shards that are kept.

A part of the source (a file, a package) is cut into shards of consecutive pages. A shard is a part of a lake table, so
it is there whole or not at all, and says what it was computed from: a run that was killed goes on after the last shard
that was written. A process holds one shard's texts, and nothing of what went before.

Pages that are too short or too long and pages that policy denies have no row, as they have no place in ``domains``.
Pages of splits that may not be selected have one without scores: what they repeat may not be selected either.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import polars as pl

from ppl_assets.benchmarks.overlap import run_hashes
from ppl_assets.corpus import Page, Rejection, decide_policy, read_part, reference_counter, text_digest
from ppl_assets.corpus.catalog import length_reason
from ppl_assets.corpus.sources import corpus_of
from ppl_assets.corpus.splits import sampling_order, split_function
from ppl_assets.filtering.eligibility import eligible_split
from ppl_assets.filtering.text_scores import Method, Score
from ppl_assets.processes import end_with_parent
from ppl_assets.progress import Progress, Report
from ppl_assets.retired import Retired
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Study
from ppl_assets.warehouse import Lake

# What a process holds at once, and what a crash costs at most.
SHARD_PAGES, SHARD_CHARACTERS = 16_384, 32_000_000
# Texts scored in one call.
_BATCH_PAGES = 1024
_SECONDS_BETWEEN_REPORTS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How pages are scored, and where their scores go.

    `fingerprint` identifies everything that decides the rows of a shard but the part of the source itself.
    """

    study: Study
    lake: Path | str
    methods: Sequence[Method]
    retired: Retired
    fingerprint: str


def score_source(
    scoring: Scoring, parts: Mapping[str, Any], *, processes: int, progress: Report | None = None
) -> list[str]:
    """Score every page of the parts that has no score yet; returns the names of all shards.

    Shards of parts that the source no longer has are removed.

    Args:
        parts: name and identity of each part of the source.
    """
    lake = Lake(scoring.lake)
    keys = {part_key(name): name for name in parts}
    fingerprints = {key: _fingerprint(scoring, parts[name]) for key, name in keys.items()}
    left = [key for key in keys if not _is_done(lake, key, fingerprints[key])]
    tasks = [(keys[key], key, fingerprints[key]) for key in left]
    if min(processes, len(tasks)) > 1:
        _score_side_by_side(scoring, tasks, min(processes, len(tasks)), progress)
    else:
        _score_here(scoring, tasks, progress)
    shards = [shard for key in sorted(keys) for shard in lake.read("page_shards", key)["shard"]]
    _remove_others(lake, set(keys), set(shards))
    return shards


def part_key(name: str) -> str:
    """A part's name in paths: a hash, since names of files and packages may be long, or a retired domain's."""
    return hashlib.blake2b(name.encode("utf-8"), digest_size=8).hexdigest()


def _fingerprint(scoring: Scoring, identity: Any) -> str:
    content = json.dumps([scoring.fingerprint, identity], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:32]


def _is_done(lake: Lake, key: str, fingerprint: str) -> bool:
    """Whether a part was read to its end and all its shards are still there."""
    footer = lake.footer("page_shards", key)
    if footer is None or footer.fingerprint != fingerprint:
        return False
    return all(_is_scored(lake, shard, fingerprint) for shard in lake.read("page_shards", key)["shard"])


def _is_scored(lake: Lake, shard: str, fingerprint: str) -> bool:
    footer = lake.footer("page_scores", shard)
    return footer is not None and footer.fingerprint == fingerprint


def _score_here(scoring: Scoring, tasks: list[tuple[str, str, str]], progress: Report | None) -> None:
    if not tasks:
        return
    done, began, scorer = 0, monotonic(), _Scorer(scoring)
    for task in tasks:
        for pages in scorer.shards(*task):
            done += pages
            if progress:
                progress(Progress(done=done, total=None, unit="pages", seconds=monotonic() - began))


class _Worker:
    """The scorer of this process, and the count of pages that all processes share."""

    scorer: "_Scorer"
    counted: Any


def _start_worker(scoring: Scoring, counted: Any) -> None:
    end_with_parent()
    _Worker.scorer, _Worker.counted = _Scorer(scoring), counted


def _score_part(task: tuple[str, str, str]) -> None:
    for pages in _Worker.scorer.shards(*task):
        with _Worker.counted.get_lock():
            _Worker.counted.value += pages


def _score_side_by_side(
    scoring: Scoring, tasks: list[tuple[str, str, str]], processes: int, progress: Report | None
) -> None:
    context = multiprocessing.get_context("spawn")
    counted, began = context.Value("q", 0), monotonic()
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_start_worker, initargs=(scoring, counted)
    ) as pool:
        waiting: set[Future[None]] = {pool.submit(_score_part, task) for task in tasks}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=_SECONDS_BETWEEN_REPORTS, return_when=FIRST_COMPLETED)
                for each in done:
                    each.result()
                if progress:
                    progress(Progress(done=counted.value, total=None, unit="pages", seconds=monotonic() - began))
        finally:
            pool.shutdown(cancel_futures=True)


class _Scorer:
    """What scores pages in one process, loaded once."""

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring
        self._lake = Lake(scoring.lake)
        self._scores: list[Score] = [method.load() for method in scoring.methods]
        self._eligible = eligible_split(scoring.study)
        self._split = split_function(corpus_of(scoring.study).splits, scoring.study.seed)
        self._counter = reference_counter(scoring.study)
        self._decide = lru_cache(maxsize=2**16)(partial(decide_policy, scoring.study.policy))

    def shards(self, part: str, key: str, fingerprint: str) -> Iterator[int]:
        """Write the shards of a part that are not there yet; yields the pages of each."""
        counts: dict[str, int] = {}
        pages = read_part(self._scoring.study, part, retired=self._scoring.retired)
        for number, run in enumerate(runs(pages)):
            shard = f"{key}-{number:05d}"
            if not _is_scored(self._lake, shard, fingerprint):
                self._lake.write("page_scores", self._rows(shard, run), partition=shard, fingerprint=fingerprint)
            counts[shard] = len(run)
            yield len(run)
        rows = pl.DataFrame({"part": key, "shard": list(counts), "pages": list(counts.values())})
        self._lake.write("page_shards", rows.cast({"shard": pl.String}), partition=key, fingerprint=fingerprint)

    def _rows(self, shard: str, run: list[Page | Rejection]) -> pl.DataFrame:
        """The rows of one shard's pages."""
        usable = [(position, page) for position, page in enumerate(run) if self._is_usable(page)]
        pages = [page for _, page in usable if isinstance(page, Page)]
        texts, splits = [page.text for page in pages], [self._split(page) for page in pages]
        columns = {
            "shard": [shard] * len(pages),
            "position": [position for position, _ in usable],
            "page_id": [page.page_id for page in pages],
            "domain": [page.domain for page in pages],
            "domain_group": [page.domain_group for page in pages],
            "language": [page.language for page in pages],
            "split": splits,
            "order": [sampling_order(page.page_id, self._scoring.study.seed) for page in pages],
            "digest": [text_digest(text) for text in texts],
            "sketch": [_sketch(text) for text in texts],
            "tokens": self._counter.count(texts),
            "scores": self._scores_of(pages, splits),
        }
        return pl.DataFrame(columns, schema=TABLES["page_scores"].polars_schema)

    def _is_usable(self, page: Page | Rejection) -> bool:
        if isinstance(page, Rejection):
            return False
        action, _ = self._decide(page.domain, page.license, page.language, page.maker)
        n_bytes = len(page.text.encode("utf-8"))
        return action == "allow" and length_reason(n_bytes, corpus_of(self._scoring.study)) is None

    def _scores_of(self, pages: list[Page], splits: list[str]) -> pl.Series:
        """What each method says of each page that may be selected, in the order of the methods; null of others."""
        places = np.array([place for place, split in enumerate(splits) if split == self._eligible], dtype=np.intp)
        scores_PS = np.zeros((len(pages), len(self._scores)))
        for start in range(0, len(places), _BATCH_PAGES):
            batch = places[start : start + _BATCH_PAGES]
            page_ids, texts = [pages[place].page_id for place in batch], [pages[place].text for place in batch]
            for column, score in enumerate(self._scores):
                scores_PS[batch, column] = score(page_ids, texts)
        found = pl.DataFrame({"scores": scores_PS, "split": splits}, schema_overrides={"split": pl.String})
        listed = pl.col("scores").cast(pl.List(pl.Float64))
        return found.select(pl.when(pl.col("split") == self._eligible).then(listed)).to_series()


def _sketch(text: str) -> int | None:
    """The smallest hash of a text's runs of 64 bytes; None where it has not one."""
    hashes = run_hashes(text.encode("utf-8"))
    return int(hashes.min() >> np.uint64(1)) if len(hashes) else None


def runs(pages: Iterator[Page | Rejection]) -> Iterator[list[Page | Rejection]]:
    """Consecutive pages, cut where they are enough for a shard; depends on the pages alone."""
    run: list[Page | Rejection] = []
    characters = 0
    for page in pages:
        run.append(page)
        characters += len(page.text) if isinstance(page, Page) else 0
        if len(run) == SHARD_PAGES or characters >= SHARD_CHARACTERS:
            yield run
            run, characters = [], 0
    if run:
        yield run


def _remove_others(lake: Lake, keys: set[str], shards: set[str]) -> None:
    for table, present in (("page_shards", keys), ("page_scores", shards)):
        for partition in set(lake.partitions(table)) - present:
            lake.remove(table, partition)
