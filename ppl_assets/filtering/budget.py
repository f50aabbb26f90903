"""Which pages fill a token budget: the best ones, exact to one page, in one pass over the scores.

Pages come in any order. They are ranked by score, larger first, and among equal scores by a seeded hash; they are taken
in that order, each domain up to its cap, until the budget is full. The last page that is taken fills it. What is kept
meanwhile is what would be taken of the pages seen so far, some 30 bytes a page: memory grows with the budget and not
with the source.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

# Pages buffered beyond what is kept, before what cannot be taken any more is let go.
_BUFFERED = 1 << 16
_SCHEMA = pl.Schema({"score": pl.Float64, "order": pl.Int64, "tokens": pl.Int64, "capped": pl.Int32})


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """The last page that is taken, as its score and its hash: pages ranked up to it are taken.

    `score` is None where the budget was not filled: all pages are taken. `by_domain` has the last page of each domain
    whose cap binds, None where not even one fits.
    """

    score: float | None
    order: int | None
    by_domain: Mapping[str, tuple[float, int] | None] = field(default_factory=dict)

    def takes(self) -> pl.Expr:
        """Whether a page is taken, from the columns score (null: may not be), order and domain."""
        taken = pl.col("score").is_not_null()
        if self.score is not None:
            taken &= _reaches(pl.lit(self.score), pl.lit(self.order))
        if not self.by_domain:
            return taken
        last = {domain: found or (float("inf"), -1) for domain, found in self.by_domain.items()}
        return taken & _reaches(_of_domain(last, 0, pl.Float64), _of_domain(last, 1, pl.Int64)).fill_null(True)


class Fill:
    """A budget that is being filled.

    Args:
        budget: tokens to take.
        caps: most tokens of a domain that may be taken; domains not named may give all that they have.
        largest_page: no page of a capped domain has more tokens than this.
    """

    def __init__(self, budget: float, *, caps: Mapping[str, float] | None = None, largest_page: int = 0) -> None:
        self._budget = budget
        self._caps = dict(caps or {})
        # Where better pages fill a cap anew they may leave a page's room: so much more is kept than the budget.
        self._margin = len(self._caps) * largest_page
        self._kept = pl.DataFrame(schema=_SCHEMA)
        self._buffer: list[pl.DataFrame] = []
        # Of each domain that went over its cap the place before the best page that did: no page behind it is taken,
        # however short. More pages can only move it up.
        self._stops = _stops(_SCHEMA.to_frame())

    def add(self, pages: pl.DataFrame) -> None:
        """More pages: columns score (null: may not be taken), order, tokens and domain."""
        # Of domains without a cap the name does not matter, and names are what takes room.
        code = {domain: number for number, domain in enumerate(self._caps)}
        capped = pl.col("domain").replace_strict(code, default=None, return_dtype=pl.Int32)
        may = pages.filter(pl.col("score").is_not_null())
        self._buffer.append(may.select("score", "order", "tokens", capped=capped if code else None).cast(_SCHEMA))
        if sum(frame.height for frame in self._buffer) > max(_BUFFERED, self._kept.height):
            self._kept = self._ranked(self._budget + self._margin)

    def threshold(self) -> Threshold:
        """What is taken of all pages that were added."""
        self._kept = self._ranked(float("inf"))
        within, names = self._kept, list(self._caps)
        last = {code: (score, order) for code, score, order in _last(within).iter_rows()}
        filled = within.filter(pl.col("tokens").cum_sum() >= self._budget)
        score, order = filled.row(0)[:2] if filled.height else (None, None)
        return Threshold(
            score=score, order=order, by_domain={names[code]: last.get(code) for code in sorted(self._stops["capped"])}
        )

    def _ranked(self, budget: float) -> pl.DataFrame:
        """What is kept and buffered, in rank order, within caps, up to the page that fills `budget`."""
        ranked = pl.concat([self._kept, *self._buffer]).sort("score", "order", descending=[True, False])
        self._buffer = []
        if self._caps:
            ranked = self._within_caps(ranked)
        return ranked.filter(pl.col("tokens").cum_sum() - pl.col("tokens") < budget)

    def _within_caps(self, ranked: pl.DataFrame) -> pl.DataFrame:
        """The pages before their domain's stop, which moves up to the first page that is now over the cap."""
        before = ranked.join(self._stops, on="capped", how="left", maintain_order="left")
        before = before.filter(_reaches(pl.col("stop_score"), pl.col("stop_order")).fill_null(True))
        cap = pl.col("capped").replace_strict(dict(enumerate(self._caps.values())), return_dtype=pl.Float64)
        over = (pl.col("tokens").cum_sum().over("capped") > cap).fill_null(False)
        before = before.select(*_SCHEMA, over=over)
        stops = pl.concat([_stops(before.filter("over")), self._stops])
        self._stops = stops.unique("capped", keep="first", maintain_order=True)
        return before.filter(~pl.col("over")).drop("over")


def _stops(pages: pl.DataFrame) -> pl.DataFrame:
    """The place before each page."""
    return pages.select("capped", stop_score=pl.col("score"), stop_order=pl.col("order") - 1)


def _last(ranked: pl.DataFrame) -> pl.DataFrame:
    capped = ranked.filter(pl.col("capped").is_not_null())
    return capped.group_by("capped").agg(pl.last("score"), pl.last("order"))


def _reaches(score: pl.Expr, order: pl.Expr) -> pl.Expr:
    return (pl.col("score") > score) | ((pl.col("score") == score) & (pl.col("order") <= order))


def _of_domain(last: Mapping[str, tuple[float, int]], place: int, dtype: type[pl.DataType]) -> pl.Expr:
    values = {domain: found[place] for domain, found in last.items()}
    return pl.col("domain").replace_strict(values, default=None, return_dtype=dtype)
