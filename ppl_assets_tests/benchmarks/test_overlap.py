"""Two texts overlap where 64 consecutive bytes of one stand in the other: compared with a plain search."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ppl_assets.benchmarks.overlap import RUN_BYTES, overlapping, run_hashes


def shares_a_run(text: str, others: list[str]) -> bool:
    data = text.encode()
    runs = {data[begin : begin + RUN_BYTES] for begin in range(len(data) - RUN_BYTES + 1)}
    return any(run in other.encode() for run in runs for other in others)


LETTERS = st.text("ab", min_size=50, max_size=90)
# Few letters, and pieces that recur: random texts would never share 64 bytes.
PIECES = st.lists(st.sampled_from(["abc" * 15, "x" * 40, "é" * 20, "0123456789" * 4, " "]), max_size=5).map("".join)


@given(st.lists(PIECES | LETTERS, max_size=6), st.lists(PIECES | LETTERS, max_size=6))
@example(["x" * 64], ["x" * 63])
@example(["x" * 64], ["a" + "x" * 64])
@example(["x" * 63], ["x" * 100])
@example([], ["x" * 100])
@example(["x" * 100], [])
@settings(max_examples=200, deadline=None)
def test_overlaps_are_those_that_a_plain_search_finds(texts: list[str], others: list[str]) -> None:
    assert overlapping(texts, others).tolist() == [shares_a_run(text, others) for text in texts]


def test_an_overlap_is_found_wherever_it_stands() -> None:
    run = "the quick brown fox jumps over the lazy dog, twelve times a day!!"[:RUN_BYTES]
    texts = [run + "-tail", "head-" + run, "head-" + run + "-tail", run[1:] + "-no", "no overlap here " * 5]
    assert len(run) == RUN_BYTES
    assert overlapping(texts, [f"before {run} after", "other"]).tolist() == [True, True, True, False, False]


@given(st.binary(max_size=200))
def test_a_run_has_the_hash_of_its_polynomial_wherever_it_stands(data: bytes) -> None:
    factor = 0x9E3779B97F4A7C15
    expected = [
        sum(byte * factor ** (RUN_BYTES - 1 - place) for place, byte in enumerate(data[start : start + RUN_BYTES]))
        for start in range(len(data) - RUN_BYTES + 1)
    ]
    assert run_hashes(data).tolist() == [value % 2**64 for value in expected]
    assert run_hashes(memoryview(data)).tolist() == run_hashes(data).tolist()
