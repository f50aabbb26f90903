"""What torch says of the processor is what the system says of it, and a device is one process's at a time."""

import contextlib
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from ppl_assets.errors import InputError
from ppl_assets.hardware import claimed, claimed_device, multiplies_bfloat16

CPUINFO = Path("/proc/cpuinfo")


def test_other_devices_are_taken_to_have_the_instructions():
    assert multiplies_bfloat16("cuda:0")


@pytest.mark.skipif(platform.machine() != "x86_64" or not CPUINFO.is_file(), reason="x86 flags are not at hand")
def test_the_flags_of_this_processor_decide():
    flags = next(line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")).split()
    assert multiplies_bfloat16() == bool({"avx512_bf16", "amx_bf16"} & set(flags))


_HOLDER = """
import sys
from pathlib import Path
from ppl_assets.hardware import claimed
with claimed(sys.argv[2:], Path(sys.argv[1])) as index:
    print(sys.argv[2 + index], flush=True)
    input()
"""


def holder(folder: Path, *devices: str) -> subprocess.Popen:
    """A process that claims one of the devices it sees, says which, and holds it until it is told to end."""
    return subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(folder), *devices],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_every_process_gets_a_device_of_its_own_whatever_part_of_them_it_sees(tmp_path):
    one = holder(tmp_path, "a", "b")
    assert one.stdout.readline().strip() == "a"
    other = holder(tmp_path, "a", "b")
    assert other.stdout.readline().strip() == "b"
    third = holder(tmp_path, "b", "c")
    assert third.stdout.readline().strip() == "c"
    for process in (one, other, third):
        process.communicate("\n")


@pytest.mark.parametrize("killed", [False, True], ids=["its step ends", "it is killed"])
def test_whoever_finds_none_free_waits_until_a_process_gives_one_back(tmp_path, killed):
    first = holder(tmp_path, "a")
    assert first.stdout.readline().strip() == "a"
    second = holder(tmp_path, "a")
    if killed:
        first.kill()
    first.communicate(None if killed else "\n")
    assert second.stdout.readline().strip() == "a"
    second.communicate("\n")
    assert second.returncode == 0


def test_a_device_is_free_again_after_its_block_even_where_it_failed(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), claimed(["a"], tmp_path):
            raise ZeroDivisionError


def test_a_folder_of_claims_that_another_user_made_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(InputError, match="belongs to another user"), claimed(["a"], tmp_path):
        pass


def test_without_a_gpu_the_processor_is_everybodys(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with claimed_device() as one, claimed_device() as other:
        assert (one, other) == ("cpu", "cpu")


def test_a_gpu_is_named_by_its_place_among_those_that_this_process_sees(tmp_path, monkeypatch):
    """Of two GPUs the first is held elsewhere: torch is told the second, and makes it the current one."""
    properties = [type("Properties", (), {"uuid": uuid}) for uuid in ("a", "b")]
    current = []
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: properties[index])
    monkeypatch.setattr("torch.cuda.device", lambda index: contextlib.nullcontext(current.append(index)))
    with claimed_device() as first, claimed_device() as second:
        assert (first, second) == ("cuda:0", "cuda:1")
        assert current == [0, 1]
