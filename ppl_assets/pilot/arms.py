"""The pages of each arm: those that the filtering room selects, and those of the controls, from the same pool.

The positive control is given pages of the domains that the target's own tasks are built from (training pages; the tasks
are built from others), or the target's texts where the study names them. The negative control does what our mixture
does, the best domains first, with estimates that are shuffled over domains anew for each seed: a choice without
information, as concentrated as ours.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from ppl_assets.corpus import text_digest
from ppl_assets.errors import InputError
from ppl_assets.filtering.arms import Choice
from ppl_assets.filtering.selected_texts import page_texts, selected_texts
from ppl_assets.filtering.selection import Pool, Tables, budget_tokens, domain_caps, open_pool, thresholds
from ppl_assets.filtering.target_texts import target_texts
from ppl_assets.pilot.packing import content_digest
from ppl_assets.pilot.runs import ArmPages
from ppl_assets.processes import temporary_path
from ppl_assets.retired import Retired
from ppl_assets.study import Study
from ppl_assets.warehouse import Lake


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where pages and their texts are read from; `digests` is the folder of remembered file digests."""

    study: Study
    lake: Lake
    digests: Path
    retired: Retired


@contextmanager
def drawn_pool(source: Source, tables: Tables, folder: Path) -> Iterator[tuple[Pool, int]]:
    """What every arm selects from, and how many reference tokens; `folder` is for what is needed meanwhile."""
    parts = source.lake.partitions("page_shards")
    shards = source.lake.read_partitions("page_shards", parts)["shard"].to_list()
    scratch = temporary_path(folder / "duplicates")
    try:
        pool = open_pool(source.study, source.lake, shards, scratch, tables)
        yield pool, budget_tokens(source.study, pool.tokens())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def arm_pages(source: Source, arm: str, selections: pl.DataFrame) -> list[ArmPages]:
    """What an arm of the filter trains on, for each target of the pilot.

    Args:
        selections: the table of that name.

    Raises:
        InputError: the arm selects nothing for a target.
    """
    rows = {row["target"]: row for row in selections.filter(pl.col("arm") == arm).to_dicts()}
    found = []
    for target in source.study.pilot_targets:
        row = rows.get(target)
        if row is None or row["pages"] == 0:
            why = f" ({row['reason']})" if row else ""
            raise InputError(f"pilot, arm {arm!r}, target {target!r}: found no page to train on{why}")
        texts = partial(_selected_texts, source, target, arm)
        found.append(ArmPages(targets=(target,), digest=row["pages_digest"], texts=texts))
    return found


def control_pages(source: Source, control: str, pool: Pool, *, budget: int, tables: Tables) -> list[ArmPages]:
    """What a control trains on, for each target of the pilot; the negative one for each seed.

    Args:
        pool, budget: what all arms select from, and how much.

    Raises:
        InputError: it is not known which pages are of a target's own kind.
    """
    study = source.study
    assert study.pilot is not None, "the study states no pilot"
    if control == "negative":
        wanted = [
            (target, seed, shuffled(tables.mixture.filter(pl.col("target") == target), seed, study.seed))
            for target in study.pilot_targets
            for seed in study.pilot.seeds
        ]
        return [_chosen(source, pool, budget, tables.domains, *each) for each in wanted]
    found = []
    for target in study.pilot_targets:
        patterns = own_patterns(study, target)
        if patterns:
            found.append(
                _chosen(source, pool, budget, tables.domains, target, None, _of_own_kind(patterns, pool.domains))
            )
        else:
            no_pages = pl.DataFrame(schema={"domain": pl.String, "text": pl.String})
            named = {text_digest(text): text for text in target_texts(study, target, no_pages)}
            digest = content_digest((text.hex(), text) for text in named)
            found.append(ArmPages(targets=(target,), digest=digest, texts=partial(_named_texts, named)))
    return found


def own_patterns(study: Study, target: str) -> list[str]:
    """Patterns of the domains that a target's tasks are built from."""
    tasks = {task.task for task in study.targets[target].tasks}
    return [built.pages for built in study.benchmarks.build if built.task in tasks]


def named_texts(study: Study, control: str) -> list[str]:
    """Files that a control's pages come from: of the positive one, for targets whose tasks are built from no pages."""
    assert study.filter is not None, "a pilot has a filter"
    targets = [name for name in study.pilot_targets if not own_patterns(study, name)] if control == "positive" else []
    return [file for target in targets for file in study.filter.target_texts.get(target, ())]


def shuffled(mixture: pl.DataFrame, seed: int, study_seed: int) -> Mapping[str, float]:
    """The estimates of one target's mixture, in a random order over its domains."""
    rows = mixture.filter(pl.col("estimate").is_not_null() & (pl.col("decision") != "excluded")).sort("domain")
    order = np.random.default_rng([study_seed, seed]).permutation(rows.height)
    return dict(zip(rows["domain"], rows["estimate"].gather(order), strict=True))


def _of_own_kind(patterns: list[str], domains: pl.Series) -> Mapping[str, float]:
    """The same score for every domain of the target's kind: which of their pages are taken is random."""
    return {domain: 1.0 for domain in domains if any(fnmatchcase(domain, pattern) for pattern in patterns)}


def _chosen(
    source: Source,
    pool: Pool,
    budget: int,
    domains: pl.DataFrame,
    target: str,
    seed: int | None,
    score: Mapping[str, float],
) -> ArmPages:
    """The pages of the pool with the best scores of their domains, up to the budget."""
    if not score:
        raise InputError(f"pilot, a control of target {target!r}: found no domain to take pages from")
    by_domain = pl.col("domain").replace_strict(dict(score), default=None, return_dtype=pl.Float64)
    choice = Choice(target=target, arm="uniform", score=by_domain)
    (selected,) = thresholds(source.study, pool, [choice], budget, domain_caps(source.study, domains))
    columns = ("page_id", "digest")
    pages = pl.concat(selected.of(pool.pages(shard)).select(*columns, shard=pl.lit(shard)) for shard in pool.shards)
    return ArmPages(
        targets=(target,),
        digest=content_digest(pages.select(columns).iter_rows()),
        texts=partial(listed_texts, source, pages),
        seed=seed,
    )


def _selected_texts(source: Source, target: str, arm: str) -> Iterator[tuple[str, str]]:
    found = selected_texts(source.study, source.lake, source.digests, target, arm, retired=source.retired)
    return ((page_id, text) for page_id, _, text in found)


def listed_texts(source: Source, pages: pl.DataFrame) -> Iterator[tuple[str, str]]:
    """Ids and texts of pages that are given as `page_id` and `shard`, in the order of the source.

    Raises:
        InputError: a page is gone from the source or has another text.
    """
    by_shard = {str(shard): rows.select("page_id") for (shard,), rows in pages.group_by("shard")}
    found = page_texts(
        source.study, source.lake, source.digests, by_shard, by_shard.__getitem__, retired=source.retired
    )
    return ((page_id, text) for page_id, _, text in found)


def _named_texts(named: Mapping[bytes, str]) -> Iterator[tuple[str, str]]:
    return ((digest.hex(), text) for digest, text in named.items())
