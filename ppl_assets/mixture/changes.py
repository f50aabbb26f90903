"""What a mixture changed against the one before: which domains entered, left and moved, and why.

The table ``mixture_changes`` holds both sides, and so is the memory of the project: the mixture before is the one that
was made last from other inputs. Made again from the same inputs, a mixture is compared with what it was compared with
the first time; made from others, with what it was made to be. One atomically replaced file holds both, so that no crash
can lose or skip a mixture.
Domains that the catalog no longer holds stand in one row without their names: what is retired leaves no trace.
"""

from collections.abc import Callable
from typing import Any

import polars as pl

from ppl_assets.mixture.reasons import percent
from ppl_assets.schema import TABLES

GONE = "(no longer in the catalog)"
# Less than this share of the mixture is rounding, not a move.
MOVED = 1e-9
_FACTS = ("weight", "estimate", "cap", "decision")
_CHOSEN = ("selected", "partial", "fallback")


def mixture_before(changes: pl.DataFrame, *, same_inputs: bool) -> pl.DataFrame:
    """The mixture to compare with and to stay near: target, domain, weight, estimate, cap and decision.

    Args:
        changes: the table ``mixture_changes`` as it was written last.
        same_inputs: whether it was made from what the mixture is made from now.
    """
    side = "before" if same_inputs else "after"
    facts = [pl.col(f"{name}_{side}").alias(name) for name in _FACTS]
    return changes.select("target", "domain", *facts).filter(pl.col("weight").is_not_null())


def change_rows(mixtures: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``mixture_changes``.

    Args:
        mixtures: rows of ``pretraining_mixture``.
        before: `mixture_before`.
    """
    now = mixtures.select("target", "domain", "reason", *(pl.col(name).alias(f"{name}_after") for name in _FACTS))
    then = before.rename({name: f"{name}_before" for name in _FACTS})
    known = then["target"].unique()
    both = now.join(then, on=["target", "domain"], how="left", maintain_order="left")
    rows = pl.concat([both, _gone(then, now)], how="diagonal").with_columns(
        change=pl.when(pl.col("target").is_in(known.implode())).then(_change())
    )
    why = [_why(row) if row["change"] in ("entered", "left", "moved") else None for row in rows.iter_rows(named=True)]
    return rows.with_columns(why=pl.Series(why, dtype=pl.String)).select(*TABLES["mixture_changes"].by_name)


def _gone(then: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """One row for each mixture that had weight on domains which the catalog no longer holds."""
    present = then.join(now.select("target").unique(), on="target", how="semi")
    return (
        present.join(now, on=["target", "domain"], how="anti")
        .group_by("target", maintain_order=True)
        .agg(weight_before=pl.col("weight_before").sum())
        .filter(pl.col("weight_before") > 0)
        .with_columns(domain=pl.lit(GONE), weight_after=pl.lit(0.0), decision_before=pl.lit("selected"))
    )


def _change() -> pl.Expr:
    """What became of each domain."""
    was, is_now = (pl.col(f"decision_{side}").is_in(_CHOSEN).fill_null(False) for side in ("before", "after"))
    moved = (pl.col("weight_after") - pl.col("weight_before").fill_null(0.0)).abs() > MOVED
    return (
        pl.when(is_now & ~was)
        .then(pl.lit("entered"))
        .when(was & ~is_now)
        .then(pl.lit("left"))
        .when(moved)
        .then(pl.lit("moved"))
        .otherwise(pl.lit("same"))
    )


def _why(row: dict[str, Any]) -> str:
    """What changed about a domain, the cause that decides first."""
    if row["domain"] == GONE:
        return "The catalog holds these domains no longer."
    if row["decision_after"] == "excluded":
        return str(row["reason"])
    if (
        "fallback" in (row["decision_before"], row["decision_after"])
        and row["decision_before"] != row["decision_after"]
    ):
        found = "no longer finds" if row["decision_after"] == "fallback" else "now finds"
        return f"The gate {found} evidence that carries a choice."
    if row["weight_before"] is None:
        return "The domain is new in the catalog."
    if row["decision_before"] == "excluded":
        return "The domain could not compete before."
    moves = (
        _move("estimate", row["estimate_before"], row["estimate_after"], lambda value: f"{value:.4g}"),
        _move("cap", row["cap_before"], row["cap_after"], percent),
    )
    own = " and ".join(move for move in moves if move)
    return f"Its {own}." if own else "Nothing about the domain; other domains, or the study's settings, changed."


def _move(what: str, was: float | None, is_now: float | None, shown: Callable[[float], str]) -> str:
    """How a number moved, in words; empty where it did not."""
    if was is None or is_now is None or abs(is_now - was) <= MOVED:
        return ""
    return f"{what} {'rose' if is_now > was else 'fell'} from {shown(was)} to {shown(is_now)}"
