"""A folder that is not a whole model is refused with what was found in it."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from ppl_assets.errors import InputError
from ppl_assets.likelihood import load_model, prefetch_model, score_texts
from ppl_assets.model_files import weights_digest
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, tiny_gpt2

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path):
    model = tmp_path / "model"
    tiny_gpt2().save_pretrained(model)
    PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), bos_token="<s>").save_pretrained(model)
    return model


def test_a_saved_model_scores_as_the_one_in_memory(folder) -> None:
    loaded = load_model(folder)
    assert not loaded.model.training
    ours = score_texts(loaded.model, loaded.tokenizer, ["text one", "two"])
    assert np.array_equal(ours.nll, score_texts(tiny_gpt2(), byte_tokenizer(), ["text one", "two"]).nll)


@pytest.mark.parametrize(
    ("instructions", "stored", "asked", "got"),
    [
        (True, torch.float32, "auto", torch.float32),
        (True, torch.bfloat16, "auto", torch.bfloat16),
        (False, torch.bfloat16, "auto", torch.float32),
        (True, torch.float16, "auto", torch.float32),
        (False, torch.float32, "bfloat16", torch.bfloat16),
        (False, torch.bfloat16, "bfloat16", torch.bfloat16),
        (True, torch.float16, "float16", torch.float16),
    ],
)
def test_auto_keeps_the_dtype_of_the_checkpoint_but_widens_what_the_processor_would_emulate(
    folder, monkeypatch, instructions, stored, asked, got
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": instructions})
    tiny_gpt2().to(stored).save_pretrained(folder)
    assert load_model(folder, dtype=asked).model.dtype == got


def _truncate(folder) -> None:
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])


def _empty(folder) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def _garbage(folder) -> None:
    (folder / WEIGHTS).write_bytes((2**60).to_bytes(8, "little") + b"no header")


def _nan(folder) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["transformer.h.1.attn.c_proj.weight"][3, 4] = torch.nan
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _infinite(folder) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["transformer.ln_f.bias"][0] = torch.inf
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _without_a_tensor(folder) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["transformer.h.0.mlp.c_fc.weight"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _of_another_shape(folder) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["transformer.ln_f.weight"] = torch.ones(17)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _index_of_a_missing_shard(folder) -> None:
    index = {"metadata": {}, "weight_map": {"transformer.wte.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _only_a_pickle(folder) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def _without_tokenizer(folder) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def _tokenizer_that_is_no_json(folder) -> None:
    (folder / "tokenizer.json").write_text("{")


def _tokenizer_of_a_larger_model(folder) -> None:
    larger = byte_tokenizer()
    larger.add_tokens([f"word {i}" for i in range(50)])
    PreTrainedTokenizerFast(tokenizer_object=larger, bos_token="<s>").save_pretrained(folder)


def _tokenizer_of_a_far_smaller_model(folder) -> None:
    model = tiny_gpt2()
    model.resize_token_embeddings(5000)
    model.save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), "found no weights, expected"),
        (lambda folder: (folder / "config.json").unlink(), "found no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded as a causal language model"),
        (_truncate, r"model.safetensors: found \d+ bytes, expected \d+ by its header"),
        (_empty, "found 0 bytes that are no safetensors file"),
        (_garbage, "found 17 bytes that are no safetensors file"),
        (_nan, r"'transformer.h.1.attn.c_proj.weight' holds NaN or infinity"),
        (_infinite, r"'transformer.ln_f.bias' holds NaN or infinity"),
        (_without_a_tensor, "no usable weights for 'transformer.h.0.mlp.c_fc.weight'"),
        (_of_another_shape, "no usable weights for 'transformer.ln_f.weight'"),
        (_index_of_a_missing_shard, "found no model-00002-of-00002.safetensors"),
        (_only_a_pickle, r"found only pickled weights \(pytorch_model.bin\)"),
        (_without_tokenizer, "found no tokenizer"),
        (_tokenizer_that_is_no_json, "its tokenizer cannot be loaded"),
        (_tokenizer_of_a_larger_model, "tokenizer has ids up to 307, expected below 260"),
        (_tokenizer_of_a_far_smaller_model, "tokenizer has 258 ids, expected nearly all of the model's 5000"),
    ],
)
def test_a_damaged_folder_is_refused_with_what_was_found(folder, damage, message) -> None:
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)


def test_pickled_weights_are_read_only_when_asked_for(folder) -> None:
    _only_a_pickle(folder)
    loaded = load_model(folder, allow_pickle=True)
    assert score_texts(loaded.model, loaded.tokenizer, ["x"]).status.tolist() == ["ok"]


def test_unusable_sources_are_named(tmp_path) -> None:
    with pytest.raises(InputError, match="found no such folder"):
        load_model(tmp_path / "absent")
    with pytest.raises(InputError, match="found revision None, expected a commit"):
        load_model("owner/name")
    with pytest.raises(InputError, match="found revision 'main'"):
        load_model("owner/name", revision="main")


def test_prefetching_leaves_the_folder_as_it_is_and_names_unusable_sources(folder, tmp_path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert prefetch_model(folder) == folder
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    with pytest.raises(InputError, match="found no such folder"):
        prefetch_model(tmp_path / "absent")


def test_an_unknown_dtype_is_named(folder) -> None:
    with pytest.raises(InputError, match="dtype: found 'int4', expected one of auto, bfloat16"):
        load_model(folder, dtype="int4")


def test_the_digest_of_weights_ignores_names_and_files_and_sees_one_changed_bit(folder, tmp_path) -> None:
    digest = weights_digest(folder)
    renamed = shutil.copytree(folder, tmp_path / "renamed")
    (renamed / WEIGHTS).rename(renamed / "other.safetensors")
    assert weights_digest(renamed) == digest

    tensors, split = load_file(folder / WEIGHTS), tmp_path / "split"
    split.mkdir()
    names = sorted(tensors)
    save_file({name: tensors[name] for name in names[:5]}, split / "b.safetensors")
    save_file({name: tensors[name] for name in names[5:]}, split / "a.safetensors")
    assert weights_digest(split) == digest

    bits = tensors[names[0]].view(torch.int32).flatten()
    bits[0] ^= 1
    save_file(tensors, folder / WEIGHTS)
    assert weights_digest(folder) != digest
    with pytest.raises(InputError, match=r"found no \*.safetensors"):
        weights_digest(tmp_path)
