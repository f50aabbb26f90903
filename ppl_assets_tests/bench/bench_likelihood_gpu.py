"""Scoring speed on a GPU: tokens per second and share of the measured bf16 matrix-product peak, over token budgets.

    python -m ppl_assets_tests.bench.bench_likelihood_gpu [--results docs/results/likelihood_gpu.json]

Needs torch, transformers and numpy alone: random weights, random ids, the shapes of three public models. Before each
shape is timed, one batch is compared with the model's own logits row by row.
"""

import argparse
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from ppl_assets.likelihood.cost import forward_flops_per_token, matmul_flops_per_second
from ppl_assets.likelihood.scoring import score_tokens
from ppl_assets.likelihood.selftest import check_batching
from ppl_assets.likelihood.tokenization import from_ids

START = 0
SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "pythia-160m": (
        "GPTNeoX",
        {"vocab_size": 50304, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    ),
    "pythia-1.4b": (
        "GPTNeoX",
        {"vocab_size": 50304, "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16},
    ),
    "llama-7b": (
        "Llama",
        {"vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32},
    ),
}
INTERMEDIATE = {"pythia-160m": 3072, "pythia-1.4b": 8192, "llama-7b": 11008}
# What to aim for, as shares of the measured peak.
AIMS = {"pythia-160m": 0.25, "pythia-1.4b": 0.50, "llama-7b": 0.55}
BUDGETS = (4096, 8192, 16384, 32768, 65536)
# Tokens timed per shape: seconds each at the aims.
TOKENS = {"pythia-160m": 8_000_000, "pythia-1.4b": 2_000_000, "llama-7b": 500_000}


def build(shape: str, device: str) -> Any:
    """The model in bf16 with random weights, made on the device."""
    name, sizes = SHAPES[shape]
    config = getattr(transformers, f"{name}Config")(
        intermediate_size=INTERMEDIATE[shape], max_position_embeddings=2048, tie_word_embeddings=False, **sizes
    )
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return getattr(transformers, f"{name}ForCausalLM")(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def measure(shape: str, device: str, peak: float) -> dict[str, Any]:
    """Agreement with the model's own logits, then speed and memory at each budget."""
    model = build(shape, device)
    generator = np.random.default_rng(0)
    lengths = generator.integers(10, 513, max(TOKENS[shape] // 261, 1))
    tokens = from_ids([generator.integers(1, 30_000, length) for length in lengths])
    agreement = check_batching(model, tokens.ids[:10_000], START)
    flops, rows = forward_flops_per_token(model), []
    weights = torch.cuda.memory_allocated()
    for budget in BUDGETS:
        score_tokens(model, tokens.select(np.arange(200)), START, token_budget=budget)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        score_tokens(model, tokens, START, token_budget=budget)
        rate = len(tokens.ids) / (time.perf_counter() - began)
        rows.append(
            {
                "token_budget": budget,
                "tokens_per_second": rate,
                "share_of_matmul_peak": rate * flops / peak,
                "memory_above_weights_mb": (torch.cuda.max_memory_allocated() - weights) / 2**20,
            }
        )
    return {
        "shape": shape,
        "agreement": str(agreement),
        "agrees": agreement.passed,
        "aim": AIMS[shape],
        "budgets": rows,
    }


def main() -> None:
    """Measure every shape that fits and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("docs/results/likelihood_gpu.json"))
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device: this benchmark measures GPUs")
    device = "cuda:0"
    peak = matmul_flops_per_second(device, torch.bfloat16)
    shapes = []
    for shape in arguments.shapes:
        shapes.append(measure(shape, device, peak))
        gc.collect()
        torch.cuda.empty_cache()
    results = {
        "device": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "matmul_peak_flops_per_second": peak,
        "shapes": shapes,
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
