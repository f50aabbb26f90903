"""What this machine's processors are good at, asked of torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def multiplies_bfloat16(device: "torch.device | str" = "cpu") -> bool:
    """Whether the device has instructions for products of bfloat16 matrices.

    A processor without them emulates: measured on one with AVX2 alone, scoring is 2.5 times slower than in float32 and
    training twenty times or more. Devices other than CPUs are taken to have them.
    """
    import torch

    if torch.device(device).type != "cpu":
        return True
    return any(bool(has) for name, has in torch.cpu.get_capabilities().items() if name.endswith("bf16"))
