"""Shifts of a selection against its pool, in numbers that can be checked by hand, and what the study's bounds make of
them."""

import polars as pl
import pytest

from ppl_assets.filtering.shift import MEASURES, Profile, shift_rows, shifts, why_withheld
from ppl_assets.study.schema import Bound, ShiftBounds

POOL = pl.DataFrame(
    {
        "language": ["en", "en", "fr", None],
        "domain_group": ["web", "web", "web", "books"],
        "domain": ["a", "b", "a", "c"],
        "tokens": [100, 100, 100, 100],
        "sketch": [1, 1, 3, 4],
    }
)


def profile(*pages: pl.DataFrame, one_in: int = 1) -> Profile:
    found = Profile(one_in=one_in)
    for each in pages:
        found.add(each)
    return found


def test_the_pool_itself_does_not_shift_in_whatever_pieces_it_comes():
    assert shifts(profile(POOL[:1], POOL[1:]), profile(POOL)) == dict.fromkeys(MEASURES, 0.0)


def test_each_measure_says_what_it_says():
    selection = pl.DataFrame(
        {
            "language": ["en", "en"],
            "domain_group": ["web", "web"],
            "domain": ["a", "a"],
            "tokens": [300, 100],
            "sketch": [1, 1],
        }
    )
    found = shifts(profile(selection), profile(POOL))
    assert found == pytest.approx(
        {
            "language": 0.5,  # all English, against a half
            "group": 0.25,
            "length": 1.0,  # 200 tokens a page, against 100
            "concentration": 0.5,  # all of a, against a half
            "duplication": 0.5,  # all have their like in the pool, against a half
        }
    )


def test_of_a_large_pool_copies_are_looked_at_together_or_not_at_all():
    copies = pl.concat([POOL.with_columns(sketch=pl.lit(number, pl.Int64)) for number in range(50)])
    looked_at = profile(copies, one_in=5)
    assert looked_at.sketches.total() == 40
    assert looked_at.repeated_in(looked_at) == 1.0


def test_a_part_of_the_pool_at_random_repeats_as_much_as_the_pool():
    near = pl.Series([number // 2 if number < 100 else number for number in range(1000)])
    pool = pl.concat([POOL[:1]] * 1000).with_columns(sketch=near)
    part = pool.sample(fraction=0.3, seed=0)
    found = shifts(profile(part), profile(pool))
    # A tenth has its like in the pool; of 300 drawn, three standard errors are 0.05.
    assert profile(pool).repeated_in(profile(pool)) == 0.1
    assert abs(found["duplication"]) < 0.05


def test_beyond_its_bounds_a_selection_warns_or_is_withheld():
    bounds = ShiftBounds(language=Bound(warn=0.3), length=Bound(warn=0.5, block=1.0), concentration=Bound())
    found = {"language": 0.4, "group": 0.9, "length": -1.2, "concentration": 0.99, "duplication": -0.5}
    rows = shift_rows("t", "ours", found, bounds)
    assert dict(rows.select("measure", "verdict").iter_rows()) == {
        "language": "warn",
        "group": "within",
        "length": "block",
        "concentration": "within",
        "duplication": "within",
    }
    assert why_withheld(rows) == "length shifts by -1.20, the study allows 1"
    assert why_withheld(rows.filter(pl.col("measure") != "length")) is None


def test_a_selection_of_nothing_shifts_nothing():
    assert shifts(profile(POOL[:0]), profile(POOL)) == dict.fromkeys(MEASURES, 0.0)
