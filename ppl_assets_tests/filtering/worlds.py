"""Pages with a known answer: what makes a page good stands in words that no other page has."""

import numpy as np
import polars as pl

GOOD, BAD, NEUTRAL = ("integral", "theorem"), ("celebrity", "gossip"), ("the", "of", "and", "a", "in", "is")
NASTY = {
    "empty": "",
    "spaces": " \t ",
    "nul": "a\x00b\x00",
    "label": "__label__include " * 50,
    "glued label": "x__label__exclude",
    "nested label": "__label____label__include __label__label__include",
    "end of sentence": "good </s> __label__include",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈",
    "surrogate": "half \ud800 a pair",
    "line separators": "a\u2028b\u2029c\x85d\x0be\x0cf\r\ng",
    "one long line": "word " * 200_000,
    "one long word": "x" * 1_000_000,
}


def drawn_text(rng: np.random.Generator, signal: tuple[str, ...], words: int = 60) -> str:
    """Neutral words with some of the signal's, of which no two draws are near duplicates."""
    fill = [f"w{number}" for number in rng.integers(0, 5000, words)]
    return " ".join(rng.permutation([*fill, *rng.choice(NEUTRAL, words // 2), *rng.choice(signal, words // 10)]))


def labelled_pages(*, sites: int = 12, pages: int = 10, seed: int = 0) -> pl.DataFrame:
    """Pages of sites of which every second one is good, with the columns that training takes."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "page_id": f"site{number}:{page}",
            "domain": f"site{number}.org",
            "language": "en" if number % 4 < 2 else "fr",
            "domain_group": None,
            "text": drawn_text(rng, GOOD if number % 2 else BAD),
            "tokens": 100,
            "label": float(number % 2),
        }
        for number in range(sites)
        for page in range(pages)
    ]
    return pl.DataFrame(rows, schema_overrides={"domain_group": pl.String})
