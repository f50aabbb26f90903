"""A model folder is whole or not there, and is recognised only as what it was written as."""

import errno
from pathlib import Path

import pytest

from ppl_assets.errors import InputError
from ppl_assets.processes import process_mark
from ppl_assets.training.checkpoints import read_record, replacing_folder, write_record

ROW = {"run": "r", "step": 3, "slug": "r-step3"}


def write(folder: Path, weights: bytes, fingerprint: str = "f") -> dict:
    with replacing_folder(folder) as temporary:
        (temporary / "model.safetensors").write_bytes(weights)
        return write_record(temporary, ROW, fingerprint=fingerprint)


def write_half(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"half")
    raise RuntimeError("half way")


def test_a_folder_takes_the_place_of_an_older_one_whole(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "r-step3"
    write(folder, b"old")
    (folder / "stale.txt").touch()
    row = write(folder, b"new")
    assert (folder / "model.safetensors").read_bytes() == b"new"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.json", "model.safetensors"]
    assert read_record(folder, fingerprint="f") == row
    assert [path.name for path in folder.parent.iterdir()] == ["r-step3"]


def test_an_error_while_writing_leaves_the_older_folder_and_nothing_else(tmp_path: Path) -> None:
    row = write(tmp_path / "m", b"old")
    with pytest.raises(RuntimeError, match="half way"), replacing_folder(tmp_path / "m") as temporary:
        write_half(temporary)
    assert read_record(tmp_path / "m", fingerprint="f") == row
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_the_temporary_folder_is_hidden_and_says_which_process_writes(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "m") as temporary:
        name, _, mark, _ = temporary.name.rsplit("-", 3)
    assert (temporary.parent, name, mark) == (tmp_path, ".m", process_mark())
    assert temporary.suffix == ".tmp"


def test_a_full_disk_is_told_with_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/m: cannot be written .*No space left"), replacing_folder(tmp_path / "m"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_destination_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/m: cannot be written"), replacing_folder(tmp_path / "file" / "m"):
        pytest.fail("the folder cannot have been made")


def damage_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weight")


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def truncate_record(folder: Path) -> None:
    text = (folder / "checkpoint.json").read_text()
    (folder / "checkpoint.json").write_text(text[: len(text) // 2])


def replace_record(folder: Path) -> None:
    (folder / "checkpoint.json").write_text("[]")


@pytest.mark.parametrize("damage", [damage_weights, remove_weights, truncate_record, replace_record])
def test_a_damaged_folder_is_not_recognised(tmp_path: Path, damage) -> None:
    write(tmp_path / "m", b"weights")
    damage(tmp_path / "m")
    assert read_record(tmp_path / "m", fingerprint="f") is None


def test_a_folder_made_from_something_else_is_not_recognised(tmp_path: Path) -> None:
    write(tmp_path / "m", b"weights", fingerprint="f")
    assert read_record(tmp_path / "m", fingerprint="g") is None
    assert read_record(tmp_path / "n", fingerprint="f") is None
