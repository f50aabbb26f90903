"""How many floating-point operations a device gives: assumed of a named one, measured on this machine."""

from dataclasses import dataclass

from ppl_assets.errors import InputError, suggestion

HERE = "here"
# Dense bfloat16, as the makers' data sheets state it, operations per second.
DATASHEET_FLOPS = {"a100": 312e12, "h100": 989e12, "h200": 989e12, "b200": 2250e12}
# Of a data sheet's peak. Measured when scoring on an H100: 0.22 (Pythia-160M), 0.41 (1.4B), 0.42 (Llama-7B).
ASSUMED_SHARE = 0.4
# Of a large matrix product's rate on this processor: docs/likelihood.md measured 0.61 to 0.74 in float32.
SHARE_HERE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device with the rate that a forecast counts on; `price` names the study's price that applies."""

    name: str
    flops_per_second: float
    is_gpu: bool
    basis: str


def device_named(name: str) -> Device:
    """A device by name; ``here`` measures this machine for a quarter of a second.

    Raises:
        InputError: an unknown name.
    """
    if name == HERE:
        return _here()
    if name not in DATASHEET_FLOPS:
        names = [HERE, *DATASHEET_FLOPS]
        raise InputError(f"--device: found {name!r}{suggestion(name, names)}, expected one of {', '.join(names)}")
    peak = DATASHEET_FLOPS[name]
    return Device(
        name=name,
        flops_per_second=ASSUMED_SHARE * peak,
        is_gpu=True,
        basis=f"{name.upper()}: {ASSUMED_SHARE:.0%} of the {peak / 1e12:,.0f} TFLOP/s (bfloat16, dense) of its data "
        "sheet; models below about a billion parameters reach less",
    )


def _here() -> Device:
    import torch

    from ppl_assets.likelihood.cost import matmul_flops_per_second

    is_gpu = torch.cuda.is_available()
    device = "cuda" if is_gpu else "cpu"
    share = ASSUMED_SHARE if is_gpu else SHARE_HERE
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has
    try:
        peak = matmul_flops_per_second(device, torch.bfloat16 if is_gpu else torch.float32)
    finally:
        torch.set_num_threads(threads)
    unit = "this GPU" if is_gpu else "one core of this machine"
    return Device(
        name=HERE,
        flops_per_second=share * peak,
        is_gpu=is_gpu,
        basis=f"{unit}: {share:.0%} of the {peak / 1e9:,.0f} GFLOP/s that a large matrix product just reached",
    )
