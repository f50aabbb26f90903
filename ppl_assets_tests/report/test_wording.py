"""Numbers as text."""

import pytest

from ppl_assets.report import wording


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (wording.share, 0.12345, "12.3 %"),
        (wording.share, 1.0, "100 %"),
        (wording.share, 0.0005204, "0.0520 %"),
        (wording.share, 0.0, "0 %"),
        (wording.share, None, "–"),
        (wording.correlation, 0.4149, "+0.41"),
        (wording.correlation, -0.034, "−0.03"),
        (wording.correlation, None, "–"),
        (wording.plain, 23.44, "23.4"),
        (wording.plain, -1234.5, "−1,234"),
        (wording.plain, 0.0021349, "0.00213"),
        (wording.probability, 0.00099, "< 0.001"),
        (wording.probability, 0.0314, "0.031"),
        (wording.probability, None, "–"),
        (wording.count, 9999, "9,999"),
        (wording.count, 12_345, "12.3 k"),
        (wording.count, 3_000_000_000, "3.00 B"),
        (wording.count, 5_100_000_000_000_000, "5,100 T"),
        (wording.count, 0, "0"),
        (wording.count, None, "–"),
    ],
)
def test_numbers_are_worded_for_people(form, value, text):
    assert form(value) == text
