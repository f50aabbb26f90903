"""How exactly `score_texts` scores each architecture; run as a script, it writes docs/likelihood_architectures.md."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers

from ppl_assets.likelihood import score_texts
from ppl_assets_tests.likelihood.architectures import ARCHITECTURES, NotBuildableError, build
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, nll_by_loop, text_of_bytes

# What a sum of at most 300 float32 log-probabilities may deviate from float64: 100 float32 eps.
EXACT = 1e-5
# Lengths in tokens (bytes, here), mixed on purpose: ragged batches of several rows, a single row, single tokens.
LENGTHS = (33, 1, 300, 2, 64, 129, 3, 200, 65, 8, 255, 5, 17, 100, 1, 40)
TOKEN_BUDGET = 700
START = 1
PAGE = Path("docs/likelihood_architectures.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """`verdict` is exact, refused, wrong or not buildable; `error` the largest relative error of a text's nats."""

    verdict: str
    error: float | None = None
    detail: str = ""


def support(architecture: str) -> Support:
    """Scores of mixed texts in ragged batches against a loop over single texts in float64."""
    try:
        model = build(architecture)
    except NotBuildableError as error:
        return Support(verdict="not buildable", detail=str(error))
    tokenizer, generator = byte_tokenizer(), np.random.default_rng(0)
    texts = [text_of_bytes(length, generator) for length in LENGTHS]
    scores = score_texts(model, tokenizer, texts, token_budget=TOKEN_BUDGET, prefix_id=START)
    if scores.refusal is not None:
        return Support(verdict="refused", detail=scores.refusal)
    expected = np.array([sum(nll_by_loop(model, tokenizer, text, prefix=START)) for text in texts])
    error = float(np.max(np.abs(scores.nll - expected) / expected))
    return Support(verdict="exact" if error <= EXACT else "wrong", error=error)


def page(found: dict[str, Support]) -> str:
    """The support list as Markdown."""
    lines = [
        "# Architectures: exact, refused, not buildable",
        "",
        f"transformers {transformers.__version__}, torch {torch.__version__}, float32 on CPU. Written by",
        "`python -m ppl_assets_tests.likelihood.architecture_support`: a tiny model of each architecture scores",
        f"{len(LENGTHS)} texts of 1 to 300 tokens in ragged batches, against a loop over single texts in float64.",
        f"Exact: every text within {EXACT:.0e} relative. Refused: the self-test found that batches change the scores.",
        "Not buildable: our generic small sizes do not make a working model; nothing is known of its scores, and the",
        "self-test decides when a real model of it is loaded.",
        "",
    ]
    for verdict in ("exact", "refused", "wrong", "not buildable"):
        rows = {name: result for name, result in found.items() if result.verdict == verdict}
        lines += [f"## {verdict.capitalize()}: {len(rows)}", ""]
        if verdict == "exact":
            worst = max(result.error or 0.0 for result in rows.values())
            lines += [f"Largest relative error {worst:.1e}.", "", ", ".join(f"`{name}`" for name in rows), ""]
        else:
            lines += [f"- `{name}`: {result.detail or result.error}" for name, result in rows.items()] + [""]
    return "\n".join(lines)


def main() -> None:
    """Write the page, from the repository's root."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    PAGE.write_text(page({name: support(name) for name in ARCHITECTURES}))


if __name__ == "__main__":
    main()
