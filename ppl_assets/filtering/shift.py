"""How a selection differs from its pool: language, group, length, concentration and repetition.

Whatever a method is told to choose, it also chooses something else: one language, short pages, one site. Each of these
is one number per target and arm, held against the study's bounds. Beyond the first bound people are warned; beyond the
second the selection is not published.

Repetition is told by the pages' sketches, the smallest hash of their runs of 64 bytes: two pages share it with a chance
that is the Jaccard similarity of their runs, so it counts near copies (word for word each text is in the pool once). A
page of a selection counts where another page of the pool is like it, chosen or not: a random selection then repeats as
much as the pool. Of a large pool the pages of some sketches stand for all; near copies are looked at together.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Bound, ShiftBounds

MEASURES = tuple(ShiftBounds.model_fields)
# Pages whose sketches are compared, about.
_SKETCHED_PAGES = 100_000


@dataclass(slots=True, kw_only=True)
class Profile:
    """What is counted of pages while they go by; every `one_in`-th sketch is looked at."""

    one_in: int = 1
    pages: int = 0
    tokens: int = 0
    tokens_by: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in ("language", "domain_group", "domain")}
    )
    sketches: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of_pool(cls, pool_pages: int) -> "Profile":
        """An empty profile for a pool of so many pages, or a selection of it."""
        return cls(one_in=max(1, pool_pages // _SKETCHED_PAGES))

    def add(self, pages: pl.DataFrame) -> None:
        """Count pages: language, domain_group, domain, tokens and sketch."""
        self.pages += pages.height
        self.tokens += int(pages["tokens"].sum())
        for name, counter in self.tokens_by.items():
            shares = pages.group_by(pl.col(name).fill_null("not stated")).agg(pl.sum("tokens"))
            counter.update(dict(shares.iter_rows()))
        self.sketches.update(pages.filter(pl.col("sketch") % self.one_in == 0)["sketch"])

    def repeated_in(self, pool: "Profile") -> float:
        """Share of pages whose sketch more than one page of the pool has."""
        repeated = sum(count for sketch, count in self.sketches.items() if pool.sketches[sketch] > 1)
        return repeated / max(self.sketches.total(), 1)

    def shares(self, name: str) -> dict[str, float]:
        """Share of the tokens by value of a column."""
        return {value: tokens / self.tokens for value, tokens in self.tokens_by[name].items()}


def shifts(selection: Profile, pool: Profile) -> dict[str, float]:
    """Each measure of a selection against its pool; all 0 for one that holds nothing."""
    if not selection.tokens:
        return dict.fromkeys(MEASURES, 0.0)
    domains, of_pool = selection.shares("domain"), pool.shares("domain")
    largest = max(domains, key=lambda name: (domains[name], name))
    return {
        "language": _distance(selection.shares("language"), pool.shares("language")),
        "group": _distance(selection.shares("domain_group"), pool.shares("domain_group")),
        "length": float(np.log2((selection.tokens / selection.pages) / (pool.tokens / pool.pages))),
        "concentration": domains[largest] - of_pool[largest],
        "duplication": selection.repeated_in(pool) - pool.repeated_in(pool),
    }


def shift_rows(target: str, arm: str, found: dict[str, float], bounds: ShiftBounds) -> pl.DataFrame:
    """Rows of ``selection_shifts`` for one selection."""
    rows = [
        {
            "target": target,
            "arm": arm,
            "measure": measure,
            "value": found[measure],
            "warn": bound.warn,
            "block": bound.block,
            "verdict": _verdict(measure, found[measure], bound),
        }
        for measure, bound in _bounds(bounds)
    ]
    return pl.DataFrame(rows, schema=TABLES["selection_shifts"].polars_schema)


def why_withheld(rows: pl.DataFrame) -> str | None:
    """Why a selection with these rows is not published; None where it is."""
    beyond = rows.filter(pl.col("verdict") == "block").select("measure", "value", "block").rows()
    parts = [f"{measure} shifts by {value:+.2f}, the study allows {block:g}" for measure, value, block in beyond]
    return "; ".join(parts) or None


def _bounds(bounds: ShiftBounds) -> Iterator[tuple[str, Bound]]:
    for measure in MEASURES:
        yield measure, getattr(bounds, measure)


def _verdict(measure: str, value: float, bound: Bound) -> str:
    # Shorter pages are as much of a shift as longer ones; less concentration or repetition is none to warn of.
    size = abs(value) if measure == "length" else value
    if bound.block is not None and size > bound.block:
        return "block"
    return "warn" if bound.warn is not None and size > bound.warn else "within"


def _distance(one: dict[str, float], other: dict[str, float]) -> float:
    """Total variation: the share that would have to change to make one the other."""
    return sum(abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in {*one, *other}) / 2
