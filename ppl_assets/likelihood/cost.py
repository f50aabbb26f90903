"""What scoring a token takes, in floating-point operations of one forward pass, and how many a device gives.

Two per parameter (multiply and add), without the input embedding (a look-up) and with the output layer, and of experts
only those a token is sent to. Attention's own products are left out: under 5 % for texts of 512 tokens.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Width of the square matrices whose product stands for a device's peak, and how often it is taken.
_PEAK_WIDTH = {"cpu": 1024, "cuda": 8192}
_PEAK_ROUNDS = 10
# Names that configs give to the experts per token, and to all of them.
_EXPERTS_USED = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


def forward_flops_per_token(model: Any) -> float:
    """Floating-point operations per scored token."""
    config = model.config.get_text_config()
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    used = next((getattr(config, name) for name in _EXPERTS_USED if getattr(config, name, None)), 1)
    experts = next((getattr(config, name) for name in _EXPERTS if getattr(config, name, None)), 1)
    active = 0.0
    for name, parameter in model.named_parameters():
        if parameter is embedding.weight and (output is None or parameter is not output.weight):
            continue
        # Shared experts (`shared_expert...`) are used by every token.
        routed = ".experts." in name
        active += parameter.numel() * (used / experts if routed else 1.0)
    return 2 * active


@dataclass(slots=True)
class TokenCount:
    """Tokens that went through a model, padding included: what was computed, not what was asked for."""

    tokens: int = 0


@contextmanager
def counted_tokens(model: Any) -> Iterator[TokenCount]:
    """Count the tokens of every forward pass of `model` meanwhile."""
    count = TokenCount()

    def add(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = named.get("input_ids", arguments[0] if arguments else None)
        count.tokens += 0 if ids is None else ids.numel()

    hook = model.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield count
    finally:
        hook.remove()


def matmul_flops_per_second(device: "torch.device | str", dtype: "torch.dtype") -> float:
    """The peak that shares are taken of: a large square matrix product on this device, median of ten, by this thread
    count. Takes a quarter of a second on a CPU core."""
    import torch

    device = torch.device(device)
    width = _PEAK_WIDTH.get(device.type, _PEAK_WIDTH["cpu"])
    a, b = (torch.randn(width, width, device=device).to(dtype) for _ in range(2))
    out, seconds = torch.mm(a, b), []
    for _ in range(_PEAK_ROUNDS):
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return 2 * width**3 / median(seconds)
