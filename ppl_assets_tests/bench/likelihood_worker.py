"""One process of the likelihood benchmark: one method scores its share of the texts, when told to begin.

The peers are what people run today: (a) the published script of perplexity-correlations, re-implemented from its
description, and (b) lm-evaluation-harness, `loglikelihood_rolling`, as released.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from ppl_assets.likelihood import forward_flops_per_token, matmul_flops_per_second, score_texts

PEER_BATCH = 2  # the published script's; lm-eval is slower still with 16 on this mix of lengths
SHAPES = {
    "neox-30M": {"class": "GPTNeoX", "vocab_size": 50304, "hidden_size": 256, "num_hidden_layers": 6},
    "llama-26M": {"class": "Llama", "vocab_size": 32000, "hidden_size": 384, "num_hidden_layers": 8},
}


def build(shape: str, dtype: str) -> Any:
    """The model of a shape with random weights: speed does not depend on them."""
    sizes = dict(SHAPES[shape])
    name, width = sizes.pop("class"), sizes["hidden_size"]
    sizes |= {"num_attention_heads": 8, "intermediate_size": 4 * width, "max_position_embeddings": 4096}
    if name == "Llama":
        sizes |= {"tie_word_embeddings": True, "intermediate_size": 1024}
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(bos_token_id=0, eos_token_id=0, **sizes)
    return getattr(transformers, f"{name}ForCausalLM")(config).to(getattr(torch, dtype)).eval()


def ours(model: Any, tokenizer: Any, texts: list[str]) -> float:
    """Total nats by `score_texts`."""
    return float(score_texts(model, tokenizer, texts).nll.sum())


def reference(model: Any, tokenizer: Any, texts: list[str]) -> float:
    """Total nats as the published script gets them: batches of 2, padded and masked, full logits, autograd left on."""
    total = 0.0
    for start in range(0, len(texts), PEER_BATCH):
        batch = tokenizer(texts[start : start + PEER_BATCH], return_tensors="pt", padding=True)
        mask = batch["attention_mask"].bool()
        logits = model(input_ids=batch["input_ids"], attention_mask=mask).logits
        shifted = logits[:, :-1].contiguous()
        labels = batch["input_ids"][:, 1:].contiguous()
        loss = torch.nn.CrossEntropyLoss(reduction="none")(shifted.view(-1, shifted.shape[-1]), labels.view(-1))
        total += float((loss.view(labels.shape) * mask[:, 1:]).sum())
    return total


def lm_eval(model: Any, tokenizer: Any, texts: list[str]) -> float:
    """Total nats by lm-eval's Hugging Face backend."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=PEER_BATCH, device="cpu", backend="causal")
    requests = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(texts)]
    return -float(sum(harness.loglikelihood_rolling(requests, disable_tqdm=True)))


METHODS: dict[str, Callable[[Any, Any, list[str]], float]] = {"ours": ours, "reference": reference, "lm_eval": lm_eval}


def _memory_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def main() -> None:
    """Load, warm up, say so; score when a line comes in; answer with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for name in ("shape", "method", "dtype"):
        parser.add_argument(name)
    for name in ("part", "parts", "threads"):
        parser.add_argument(name, type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = build(arguments.shape, arguments.dtype)
    raw = str(arguments.folder / f"{arguments.shape}.json")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=raw, bos_token="<s>", pad_token="<s>")
    texts = json.loads((arguments.folder / f"{arguments.shape}-texts.json").read_text())
    share = sorted(texts, key=len)[arguments.part :: arguments.parts]
    METHODS[arguments.method](model, tokenizer, ["warm up", "both"])
    peak = matmul_flops_per_second("cpu", getattr(torch, arguments.dtype))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    Path("/proc/self/clear_refs").write_text("5")  # begin the peak anew
    resident, began, used = _memory_kb("VmRSS"), time.perf_counter(), time.process_time()
    nats = METHODS[arguments.method](model, tokenizer, share)
    answer = {
        "wall_seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - used,
        "memory_mb": (_memory_kb("VmHWM") - resident) / 1024,
        "nats": nats,
        "matmul_flops_per_second": peak,
        "flops_per_token": forward_flops_per_token(model),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
