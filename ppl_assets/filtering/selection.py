"""Which pages every arm selects: one budget, one pool, one threshold per arm, in a few passes over ``page_scores``.

The pool is what any arm may select: pages of the eligible split, of domains that the catalog kept, each text once, and
none that was found to nearly repeat a page that models are scored or tested on. The passes read one shard at a time;
what a pass keeps grows with domains and, for the thresholds, with the budget.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ppl_assets.corpus.sources import corpus_of
from ppl_assets.errors import InputError
from ppl_assets.filtering.arms import Choice, Evidence, choices
from ppl_assets.filtering.budget import Fill, Threshold
from ppl_assets.filtering.eligibility import eligible_split
from ppl_assets.filtering.shift import Profile, shift_rows, shifts, why_withheld
from ppl_assets.filtering.tables import filter_settings
from ppl_assets.mixture.tables import epochs_by_domain
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Study
from ppl_assets.warehouse import Lake, sql_to_files

# Of the engine that looks for repeated texts; beyond it, it sorts on the disk. That takes memory as well, for one block
# of each run that is merged: twice as much is enough for about four times the pages.
_DUPLICATE_MEMORY = tuple(2**power for power in range(26, 33))
_READ = ("position", "page_id", "domain", "domain_group", "language", "order", "digest", "sketch", "tokens", "scores")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The pages that may be selected, shard by shard.

    Attributes:
        shards: of ``page_scores``, that take part.
        domains: names of domains that the catalog kept and policy allows.
        left_out: ids of sampled pages that nearly repeat another.
        duplicates: folder of `sql_to_files`, of pages that another page stands for.
    """

    lake: Lake
    shards: Sequence[str]
    split: str
    domains: pl.Series
    left_out: pl.Series
    duplicates: Path

    def pages(self, shard: str) -> pl.DataFrame:
        """The rows of a shard that may be selected."""
        rows = self.lake.read("page_scores", shard).filter(pl.col("split") == self.split).select(_READ)
        repeated = self.duplicates / f"shard={shard}"
        if repeated.is_dir():
            rows = rows.join(pl.read_parquet(repeated / "*.parquet").select("position"), on="position", how="anti")
        return rows.filter(
            pl.col("domain").is_in(self.domains.implode()), ~pl.col("page_id").is_in(self.left_out.implode())
        )

    def tokens(self) -> dict[str, int]:
        """Tokens that each domain may give."""
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(dict(self.pages(shard).group_by("domain").agg(pl.sum("tokens")).iter_rows()))
        return dict(total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """What one arm selects for one target."""

    choice: Choice
    threshold: Threshold

    @property
    def key(self) -> tuple[str, str]:
        """Target and arm."""
        return self.choice.target, self.choice.arm

    def of(self, pages: pl.DataFrame) -> pl.DataFrame:
        """The pages that are selected, with their score."""
        return pages.with_columns(score=self.choice.score).filter(self.threshold.takes())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Tables of the lake that a selection rests on, `losses` of the models that take part."""

    domains: pl.DataFrame
    near_duplicates: pl.DataFrame
    mixture: pl.DataFrame
    losses: pl.DataFrame


def select_pages(
    study: Study,
    lake: Lake,
    shards: Sequence[str],
    names: Sequence[str],
    tables: Tables,
    *,
    scratch: Path,
    fingerprint: str,
) -> dict[str, pl.DataFrame]:
    """Write ``selected_pages`` for every arm and target; returns rows of ``selections`` and ``selection_shifts``.

    Args:
        shards: of ``page_scores``; scores in it are named by `names`.
        scratch: a folder that is made for the work and removed after it.

    Raises:
        InputError: an arm lacks what it needs, or no page may be selected.
    """
    try:
        pool = open_pool(study, lake, shards, scratch, tables)
        held = pool.tokens()
        if not held:
            raise InputError(f"study {study.name!r}: no page may be selected; see tables domains and near_duplicates")
        budget = budget_tokens(study, held)
        evidence = Evidence(mixture=tables.mixture, losses=tables.losses, pool_tokens=held)
        chosen = choices(study, names, evidence, budget)
        selected = thresholds(study, pool, chosen, budget, domain_caps(study, tables.domains))
        shifted = measure_shifts(study, pool, selected)
        by_key = shifted.partition_by("target", "arm", as_dict=True)
        withheld = {key: why for key, rows in by_key.items() if (why := why_withheld(rows))}
        rows = write_selection(pool, selected, budget, fingerprint=fingerprint, withheld=withheld)
        return {"selections": rows, "selection_shifts": shifted}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def open_pool(study: Study, lake: Lake, shards: Sequence[str], folder: Path, tables: Tables) -> Pool:
    """The pool of a study; repeated texts are looked for over all shards, and what is found goes into `folder`."""
    sql_to_files(
        lake,
        "page_duplicates",
        folder,
        by="shard",
        partitions={"page_scores": shards},
        memory_bytes=_DUPLICATE_MEMORY,
    )
    kept = tables.domains.filter((pl.col("policy") == "allow") & (pl.col("pages") > 0))
    return Pool(
        lake=lake,
        shards=shards,
        split=eligible_split(study),
        domains=kept["domain"],
        left_out=tables.near_duplicates["page_id"],
        duplicates=folder,
    )


def budget_tokens(study: Study, pool_tokens: Mapping[str, int]) -> int:
    """Tokens to select: the study's budget, or its share of the pool that may be selected."""
    mixture = study.mixture
    return mixture.budget_tokens or round(float(mixture.keep or 1) * sum(pool_tokens.values()))


def domain_caps(study: Study, domains: pl.DataFrame) -> dict[str, float]:
    """Most tokens that a domain may give, where the study allows less than all of it; each text is taken once."""
    names = domains["domain"].to_list()
    epochs = dict.fromkeys(names, study.mixture.max_epochs) | epochs_by_domain(study.mixture, names)
    held = dict(domains.filter(pl.col("tokens").is_not_null()).select("domain", "tokens").iter_rows())
    return {name: allowed * held[name] for name, allowed in epochs.items() if allowed < 1 and name in held}


def thresholds(
    study: Study, pool: Pool, chosen: Sequence[Choice], budget: int, caps: Mapping[str, float]
) -> list[Selected]:
    """The last page that each arm takes, found in one pass over the scores."""
    largest = corpus_of(study).max_page_bytes  # a token has at least one byte
    fills = [Fill(budget, caps=caps, largest_page=largest) for _ in chosen]
    for shard in pool.shards:
        pages = pool.pages(shard)
        for choice, fill in zip(chosen, fills, strict=True):
            fill.add(pages.select("order", "tokens", "domain", score=choice.score))
    return [Selected(choice=choice, threshold=fill.threshold()) for choice, fill in zip(chosen, fills, strict=True)]


def measure_shifts(study: Study, pool: Pool, selected: Sequence[Selected]) -> pl.DataFrame:
    """Rows of ``selection_shifts``: how each selection differs from the pool."""
    count = sum(pool.pages(shard).height for shard in pool.shards)
    whole, profiles = Profile.of_pool(count), [Profile.of_pool(count) for _ in selected]
    for shard in pool.shards:
        pages = pool.pages(shard)
        whole.add(pages)
        for each, profile in zip(selected, profiles, strict=True):
            profile.add(each.of(pages))
    bounds = filter_settings(study).bounds
    return pl.concat(
        shift_rows(*each.key, shifts(profile, whole), bounds) for each, profile in zip(selected, profiles, strict=True)
    )


def write_selection(
    pool: Pool,
    selected: Sequence[Selected],
    budget: int,
    *,
    fingerprint: str,
    withheld: Mapping[tuple[str, ...], str],
) -> pl.DataFrame:
    """Write ``selected_pages`` shard by shard; returns the rows of ``selections``.

    Args:
        withheld: by target and arm, why a selection is not published: it has a row, and no pages.
    """
    tallies = [_Tally() for _ in selected]
    columns = TABLES["selected_pages"].polars_schema
    for shard in pool.shards:
        pages, found = pool.pages(shard), [columns.to_frame()]
        for each, tally in zip(selected, tallies, strict=True):
            taken = each.of(pages)
            tally.add(taken, among=pages.height)
            if each.key not in withheld:
                named = dict(zip(("target", "arm", "shard"), map(pl.lit, (*each.key, shard)), strict=True))
                found.append(taken.with_columns(**named).select(columns.names()))
        pool.lake.write("selected_pages", pl.concat(found), partition=shard, fingerprint=fingerprint)
    for other in set(pool.lake.partitions("selected_pages")) - set(pool.shards):
        pool.lake.remove("selected_pages", other)
    rows = [_row(*pair, budget, withheld) for pair in zip(selected, tallies, strict=True)]
    return pl.DataFrame(rows, schema=TABLES["selections"].polars_schema)


@dataclass(slots=True)
class _Tally:
    """What is counted of a selection while shards go by."""

    tokens: int = 0
    pages: int = 0
    pool_pages: int = 0
    domains: set[str] = field(default_factory=set)
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, taken: pl.DataFrame, *, among: int) -> None:
        self.tokens += int(taken["tokens"].sum())
        self.pages += taken.height
        self.pool_pages += among
        self.domains |= set(taken["domain"])
        for page_id, tokens, text in taken.select("page_id", "tokens", "digest").iter_rows():
            self.digest.update(f"{page_id}\0{tokens}\0".encode() + text)


def _row(selected: Selected, tally: _Tally, budget: int, withheld: Mapping[tuple[str, ...], str]) -> dict[str, object]:
    target, arm = selected.key
    status, reason = "selected", f"the best {tally.pages:,} pages fill the budget"
    if tally.tokens < budget:
        status = "short"
        reason = f"all pages that the arm may take hold {tally.tokens / budget:.0%} of the budget"
    if selected.choice.lacks:
        reason = selected.choice.lacks
    if selected.key in withheld:
        status, reason = "blocked", withheld[selected.key]
    return {
        "target": target,
        "arm": arm,
        "status": status,
        "reason": reason,
        "budget": budget,
        "tokens": tally.tokens,
        "pages": tally.pages,
        "domains": len(tally.domains),
        "threshold": selected.threshold.score,
        "pool_pages": tally.pool_pages,
        "pages_digest": tally.digest.hexdigest()[:32],
    }
