"""What changed since last time, why, and that the memory of it neither drifts nor names what is gone."""

import polars as pl
import pytest

from ppl_assets.mixture.changes import GONE, change_rows, mixture_before
from ppl_assets.schema import TABLES

NOTHING = TABLES["mixture_changes"].polars_schema.to_frame()


def mixture(rows: dict[str, tuple], target: str = "t") -> pl.DataFrame:
    """Rows of the mixture from weight, estimate, cap and decision by domain."""
    return pl.DataFrame(
        [(target, domain, *facts, f"Reason of {domain}.") for domain, facts in rows.items()],
        schema=["target", "domain", "weight", "estimate", "cap", "decision", "reason"],
        orient="row",
    )


FIRST = mixture(
    {
        "a": (0.5, 0.9, 0.5, "selected"),
        "b": (0.3, 0.8, 0.4, "partial"),
        "c": (0.0, 0.1, 0.4, "not selected"),
        "d": (0.2, 0.7, 0.2, "selected"),
        "e": (0.0, None, 0.2, "excluded"),
    }
)


def by_domain(changes: pl.DataFrame) -> dict[str, dict]:
    return {row["domain"]: row for row in changes.iter_rows(named=True)}


def test_the_first_mixture_has_nothing_to_compare_with():
    rows = change_rows(FIRST, mixture_before(NOTHING, same_inputs=False))
    assert rows["change"].to_list() == [None] * 5
    assert rows["why"].to_list() == [None] * 5
    assert rows["weight_after"].to_list() == FIRST["weight"].to_list()


def test_every_change_says_what_changed():
    second = mixture(
        {
            "a": (0.2, 0.4, 0.5, "partial"),
            "b": (0.4, 0.8, 0.5, "selected"),
            "c": (0.3, 0.1, 0.4, "partial"),
            "d": (0.0, 0.7, 0.2, "excluded"),
            "e": (0.05, 0.95, 0.2, "partial"),
            "f": (0.05, 0.9, 0.05, "selected"),
        }
    )
    first = change_rows(FIRST, mixture_before(NOTHING, same_inputs=False))
    rows = by_domain(change_rows(second, mixture_before(first, same_inputs=False)))
    assert {domain: row["change"] for domain, row in rows.items()} == {
        "a": "moved",
        "b": "moved",
        "c": "entered",
        "d": "left",
        "e": "entered",
        "f": "entered",
    }
    assert {domain: row["why"] for domain, row in rows.items()} == {
        "a": "Its estimate fell from 0.9 to 0.4.",
        "b": "Its cap rose from 40 % to 50 %.",
        "c": "Nothing about the domain; other domains, or the study's settings, changed.",
        "d": "Reason of d.",
        "e": "The domain could not compete before.",
        "f": "The domain is new in the catalog.",
    }
    assert (rows["a"]["weight_before"], rows["a"]["weight_after"]) == (0.5, 0.2)
    assert rows["f"]["weight_before"] is None


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("selected", "fallback", "The gate no longer finds evidence that carries a choice."),
        ("fallback", "selected", "The gate now finds evidence that carries a choice."),
    ],
)
def test_a_turn_of_the_gate_is_named(before, after, why):
    first = change_rows(mixture({"a": (1.0, 0.9, 1.0, before)}), mixture_before(NOTHING, same_inputs=False))
    rows = change_rows(mixture({"a": (0.5, 0.9, 1.0, after)}), mixture_before(first, same_inputs=False))
    assert rows["change"].to_list() == ["moved"]
    assert rows["why"].to_list() == [why]


def test_domains_that_the_catalog_no_longer_holds_are_counted_but_not_named():
    first = change_rows(FIRST, mixture_before(NOTHING, same_inputs=False))
    second = mixture({"a": (0.6, 0.9, 0.6, "selected"), "c": (0.4, 0.1, 0.4, "selected")})
    rows = change_rows(second, mixture_before(first, same_inputs=False))
    gone = by_domain(rows)[GONE]
    assert (gone["change"], gone["weight_before"], gone["weight_after"]) == ("left", 0.5, 0.0)
    assert set(rows["domain"]) == {"a", "c", GONE}
    again = change_rows(second, mixture_before(rows, same_inputs=True))
    assert again.equals(rows)
    third = change_rows(second, mixture_before(rows, same_inputs=False))
    assert set(third["domain"]) == {"a", "c"}
    assert set(third["change"]) == {"same"}


def test_made_again_from_the_same_inputs_a_mixture_is_compared_with_the_same():
    first = change_rows(FIRST, mixture_before(NOTHING, same_inputs=False))
    assert change_rows(FIRST, mixture_before(first, same_inputs=True)).equals(first)
    moved = FIRST.with_columns(weight=pl.Series([0.4, 0.4, 0.0, 0.2, 0.0]))
    second = change_rows(moved, mixture_before(first, same_inputs=False))
    assert change_rows(moved, mixture_before(second, same_inputs=True)).equals(second)


def test_a_mixture_that_the_study_adds_has_nothing_to_compare_with():
    first = change_rows(FIRST, mixture_before(NOTHING, same_inputs=False))
    both = pl.concat([FIRST, FIRST.with_columns(target=pl.lit("mean"))])
    rows = change_rows(both, mixture_before(first, same_inputs=False))
    assert set(rows.filter(pl.col("target") == "t")["change"]) == {"same"}
    assert rows.filter(pl.col("target") == "mean")["change"].null_count() == 5
