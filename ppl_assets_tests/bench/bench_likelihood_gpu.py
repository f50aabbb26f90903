"""Scoring on a GPU: tokens per second and share of the measured bf16 matrix-product peak over budgets; exactness.

    python -m ppl_assets_tests.bench.bench_likelihood_gpu [--results docs/results/likelihood_gpu.json]

Needs torch, transformers and numpy alone: random weights, random ids, the shapes of three public models. Before a
shape is timed, one batch is compared with the model's own logits row by row; at the end small float32 models with a
float64 loop on the processor, and scores where memory runs out with those where it does not. Every batch has a shape
that was not seen before, as in use; what is warmed up is the process. The file is written anew after each shape.
"""

import argparse
import gc
import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from ppl_assets.likelihood.cost import forward_flops_per_token, matmul_flops_per_second
from ppl_assets.likelihood.passes import affordable_budget
from ppl_assets.likelihood.scoring import score_tokens
from ppl_assets.likelihood.selftest import check_batching
from ppl_assets.likelihood.tokenization import TokenizedTexts, from_ids

START = 0
SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "pythia-160m": (
        "GPTNeoX",
        {
            "vocab_size": 50304,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
        },
    ),
    "pythia-1.4b": (
        "GPTNeoX",
        {
            "vocab_size": 50304,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
        },
    ),
    "llama-7b": (
        "Llama",
        {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
        },
    ),
}
SMALL = {
    "vocab_size": 40_000,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
# What to aim for, as shares of the measured peak.
AIMS = {"pythia-160m": 0.25, "pythia-1.4b": 0.50, "llama-7b": 0.55}
BUDGETS = (4096, 8192, 16384, 32768, 65536)
# Tokens timed per shape: 4 to 8 seconds each at the aims.
TOKENS = {"pythia-160m": 4_000_000, "pythia-1.4b": 800_000, "llama-7b": 250_000}
SUSTAINED_SECONDS = 2.0


def build(name: str, sizes: dict[str, int], *, device: str, dtype: torch.dtype = torch.bfloat16) -> Any:
    """A model with random weights, made on the device."""
    config = getattr(transformers, f"{name}Config")(max_position_embeddings=2048, tie_word_embeddings=False, **sizes)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return getattr(transformers, f"{name}ForCausalLM")(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def random_texts(total: int, *, longest: int = 512) -> TokenizedTexts:
    """About `total` random ids in texts of 10 to `longest` tokens."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(10, longest + 1, max(2 * total // (10 + longest), 1))
    return from_ids([generator.integers(1, 30_000, length) for length in lengths])


def exactness(device: str) -> dict[str, float]:
    """Largest relative error of a text's nats in float32 against a float64 loop, by architecture; and out of memory."""
    found, texts = {}, random_texts(20_000, longest=300)
    for name in ("GPTNeoX", "Llama"):
        model = build(name, SMALL, device=device, dtype=torch.float32)
        nll = score_tokens(model, texts, START).nll
        found[name] = float(np.abs(nll / _nll_by_loop(model.cpu().double(), texts) - 1).max())
    model = build(*SHAPES["pythia-160m"], device=device)
    texts = random_texts(400_000)
    whole = score_tokens(model, texts, START).nll
    capacity = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    # Room for the weights, the logits of a block, and a part of the batch asked for.
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 2**30) / capacity)
    short = score_tokens(model, texts, START, token_budget=1 << 20).nll
    torch.cuda.set_per_process_memory_fraction(1.0)
    found["bf16, 1 GiB of memory against all"] = float(np.abs(short / whole - 1).max())
    found["token budget that fitted into 1 GiB"] = affordable_budget(model, 1 << 20)
    return found


def _nll_by_loop(model: Any, texts: TokenizedTexts) -> np.ndarray:
    """Nats of each text alone, from full logits in float64 on the processor."""
    nll = []
    for begin, end in pairwise(texts.offsets):
        ids = torch.from_numpy(np.concatenate([[START], texts.ids[begin:end]]).astype(np.int64))
        with torch.inference_mode():
            logits = model(input_ids=ids[None, :-1]).logits[0]
        nll.append(float(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum")))
    return np.array(nll)


def sustained_flops_per_second(device: str) -> float:
    """Rate of the same matrix products one after the other for seconds, which a GPU's power limit slows down."""
    width = 8192
    a, b = (torch.randn(width, width, device=device).bfloat16() for _ in range(2))
    products, began = 0, time.perf_counter()
    while time.perf_counter() - began < SUSTAINED_SECONDS:
        for _ in range(50):
            torch.mm(a, b)
        torch.cuda.synchronize()
        products += 50
    return 2 * width**3 * products / (time.perf_counter() - began)


def measure(shape: str, device: str, peak: float) -> dict[str, Any]:
    """Agreement with the model's own logits, then speed and memory at each budget and at the default one."""
    model, tokens = build(*SHAPES[shape], device=device), random_texts(TOKENS[shape])
    agreement = check_batching(model, tokens.ids[:10_000], START)
    flops, rows = forward_flops_per_token(model), []
    weights = torch.cuda.memory_allocated()
    score_tokens(model, tokens.select(np.arange(200)), START)
    for budget in BUDGETS:
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
        sys.stdout.write(f"{shape} {rows[-1]}\n")
    return {
        "shape": shape,
        "agreement": str(agreement),
        "agrees": agreement.passed,
        "aim": AIMS[shape],
        "default_token_budget": affordable_budget(model),
        "budgets": rows,
    }


def main() -> None:
    """Measure every shape and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("docs/results/likelihood_gpu.json"))
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device: this benchmark measures GPUs")
    device = "cuda:0"
    peak = matmul_flops_per_second(device, torch.bfloat16)
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "matmul_peak_flops_per_second": peak,
        "matmul_sustained_flops_per_second": sustained_flops_per_second(device),
        "shapes": [],
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    for shape in arguments.shapes:
        results["shapes"].append(measure(shape, device, peak))
        arguments.results.write_text(json.dumps(results, indent=1) + "\n")
        gc.collect()
        torch.cuda.empty_cache()
    results["exactness"] = exactness(device)
    sys.stdout.write(f"{results['exactness']}\n")
    arguments.results.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
