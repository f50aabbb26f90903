"""Pages for tests: sentences and lines of code that never repeat, in three splits."""

import numpy as np
import polars as pl

WORDS = [first + last for first in ("ri", "sto", "win", "gar", "mor") for last in ("ver", "ne", "dow", "den", "ling")]


def prose(seed: int, sentences: int = 30) -> str:
    rng = np.random.default_rng(seed)
    lines = [
        " ".join(rng.choice(WORDS, 9)).capitalize() + f", said number {rng.integers(10**6)}." for _ in range(sentences)
    ]
    return " ".join(lines)


def code(seed: int, lines: int = 40) -> str:
    rng = np.random.default_rng(seed)
    words, numbers = rng.choice(WORDS, (lines, 3)), rng.integers(10**6, size=lines)
    return "\n".join(
        f"    {name}_{number} = {function}({number // 3}) + {other}"
        for (name, function, other), number in zip(words, numbers, strict=True)
    )


def page(domain: str, index: int, text: str, split: str = "benchmark") -> dict:
    size = len(text.encode())
    return {
        "page_id": f"{domain}:{index}",
        "domain": domain,
        "split": split,
        "bytes": size,
        "tokens": size,
        "text": text,
    }


def corpus(pages_per_split: int = 8) -> pl.DataFrame:
    """Domains a/prose, b/prose, a/code and b/code, with the same number of pages in each split."""
    rows, seed = [], 0
    for split in ("training", "scoring", "benchmark"):
        for domain, make in (("a/prose", prose), ("b/prose", prose), ("a/code", code), ("b/code", code)):
            for _ in range(pages_per_split):
                rows.append(page(domain, seed, make(seed), split))
                seed += 1
    return pl.DataFrame(rows)
