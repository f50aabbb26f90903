"""This machine's processors: what they are good at, asked of torch, and which of them a step computes on."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ppl_assets.errors import InputError

if TYPE_CHECKING:
    import torch

_SECONDS_BETWEEN_CLAIMS = 0.5


def multiplies_bfloat16(device: "torch.device | str" = "cpu") -> bool:
    """Whether the device has instructions for products of bfloat16 matrices.

    A processor without them emulates: measured on one with AVX2 alone, scoring is 2.5 times slower than in float32 and
    training twenty times or more. Devices other than CPUs are taken to have them.
    """
    import torch

    if torch.device(device).type != "cpu":
        return True
    return any(bool(has) for name, has in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


@contextmanager
def claimed_device() -> Iterator[str]:
    """The device to compute on, as torch names it: a CUDA device that is nobody else's meanwhile, or ``cpu``.

    Waits while every device that this process sees is claimed. Claims hold on one host, among the processes of one
    user, and whatever part of the devices each of them sees: they go by the device's UUID.

    Raises:
        InputError: the folder of the claims belongs to another user.
    """
    import torch

    if not torch.cuda.is_available():
        yield "cpu"
        return
    uuids = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    with claimed(uuids, Path(tempfile.gettempdir()) / f"ppl-assets-devices-{os.getuid()}") as index:
        # Some kernels are launched on the current device, whatever their tensors say.
        with torch.cuda.device(index):
            yield f"cuda:{index}"
        # What this process keeps for later, whoever claims the device next would lack.
        torch.cuda.empty_cache()


@contextmanager
def claimed(names: Sequence[str], folder: Path) -> Iterator[int]:
    """Index of a name that nobody else has claimed; waits while all are.

    A claim is a lock on a file of `folder`, which the kernel takes back when the process ends, however it ends.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise InputError(f"{folder}: belongs to another user, expected a folder of one's own; remove it or set TMPDIR")
    while True:
        for index, name in enumerate(names):
            with (folder / f"{name}.lock").open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield index
                return
        # The kernel wakes nobody who waits for any one of several locks.
        time.sleep(_SECONDS_BETWEEN_CLAIMS)
