"""Pages, tokenizers and runs of a pilot, small enough for seconds."""

from pathlib import Path

from ppl_assets.corpus import text_digest
from ppl_assets.pilot.packing import content_digest, tokenize_pages
from ppl_assets.pilot.training import Run
from ppl_assets.study.schema import PilotSize
from ppl_assets.training.tokenizer import as_transformers, train_tokenizer

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "seven",
    "wizards",
    "mix",
    "potions",
    "in",
    "deep",
    "copper",
    "bowls",
    "at",
    "dusk",
]


def page_texts(count: int, *, first: int = 0) -> dict[str, str]:
    """Pages of 1 to 120 words, by id; the same id is the same page."""
    return {
        f"page-{number:04d}": " ".join(WORDS[(number * step) % len(WORDS)] for step in range(1 + number * 37 % 120))
        for number in range(first, first + count)
    }


def digest_of(pages: dict[str, str]) -> str:
    """Identity of pages given as texts by id."""
    return content_digest((name, text_digest(text)) for name, text in pages.items())


def size(**changes: object) -> PilotSize:
    """A model of a few thousand parameters, trained for ten steps."""
    settings = {
        "architecture": {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 32},
        "context_tokens": 16,
        "batch_sequences": 4,
        "budget_tokens": 640,
        "learning_rate": 1e-2,
        "checkpoint_steps": 3,
    }
    return PilotSize.model_validate(settings | changes)


def run_on(folder: Path, pages: dict[str, str], *, seed: int = 0, max_epochs: float = 4.0, **changes: object) -> Run:
    """A run on `pages`, whose tokens are written below `folder`."""
    raw = train_tokenizer(page_texts(200).values(), 300)
    identity = digest_of(pages)
    tokenize_pages(pages.items(), folder / "tokens" / identity, raw, start=0, identity=identity)
    made = size(**changes)
    return Run(
        where="pilot, arm 'ours'",
        size=made,
        tokens=folder / "tokens" / identity,
        pages=identity,
        tokenizer=as_transformers(raw, context_tokens=made.context_tokens),
        seed=seed,
        max_epochs=max_epochs,
    )
