"""One small page per hand-written rule: the page that keeps them all, and what breaks each."""

import numpy as np
import pytest

from ppl_assets.filtering.rules import broken_rule, scores

FINE = "\n".join(
    " ".join(f"word{chr(97 + (line * 13 + place * 7) % 26)}{line}" for place in range(12)) for line in range(8)
)


def test_a_plain_page_keeps_every_rule():
    assert broken_rule(FINE) is None


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("length", "too few words"),
        ("length", ""),
        ("length", "word " * 100_001),
        ("word length", "a b " * 40),
        ("word length", f"{'x' * 30} {'y' * 25} " * 40),
        ("symbols", FINE + " # # #" * 6),
        ("words without letters", " ".join(f"1234{number} alpha" for number in range(60))),
        ("bullet points", "\n".join(f"- {line}" for line in FINE.splitlines())),
        ("ellipses", "\n".join(f"{line} etc..." for line in FINE.splitlines())),
        ("repeated lines", "\n".join([FINE, *["the same line again and again"] * 5])),
        ("repeated n-grams", "some words " * 40 + " ".join(f"other{number}" for number in range(50))),
    ],
)
def test_what_breaks_a_rule_is_named(rule, text):
    assert broken_rule(text) == rule


def test_rules_choose_and_do_not_rank():
    np.testing.assert_array_equal(scores([FINE, "short", FINE.upper()]), [1.0, np.nan, 1.0])
