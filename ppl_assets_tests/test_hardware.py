"""What torch says of the processor is what the system says of it."""

import platform
from pathlib import Path

import pytest

from ppl_assets.hardware import multiplies_bfloat16

CPUINFO = Path("/proc/cpuinfo")


def test_other_devices_are_taken_to_have_the_instructions():
    assert multiplies_bfloat16("cuda:0")


@pytest.mark.skipif(platform.machine() != "x86_64" or not CPUINFO.is_file(), reason="x86 flags are not at hand")
def test_the_flags_of_this_processor_decide():
    flags = next(line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")).split()
    assert multiplies_bfloat16() == bool({"avx512_bf16", "amx_bf16"} & set(flags))
