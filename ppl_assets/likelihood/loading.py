"""Language models and their tokenizers from a folder or from the Hugging Face hub, checked before they are used.

Only safetensors are read: a pickle runs whatever its author put in it. What transformers would repair in silence (a
weight that is missing is initialised at random, a branch name means other weights tomorrow) is refused here.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_assets.errors import InputError
from ppl_assets.hardware import multiplies_bfloat16
from ppl_assets.model_files import READ_BYTES, check_files

if TYPE_CHECKING:
    import torch

# Rows of the embedding that no token uses: padding to a multiple of 64 to 512, or room for new tokens. Known models
# stay below 3 % (DeepSeek 7B: 2,385 of 102,400); more means a tokenizer of another model.
UNUSED_ROWS, UNUSED_SHARE = 1024, 0.1


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal LM in evaluation mode with its tokenizer; `folder` holds the files that were read."""

    model: Any
    tokenizer: Any
    folder: Path


def load_model(
    source: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: "str | torch.device" = "cpu",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> LoadedModel:
    """Load the causal LM and tokenizer at `source`: a local folder, or a Hugging Face id with its `revision`.

    Args:
        revision: commit or tag of a Hugging Face id; required there, meaningless for a folder.
        dtype: "auto" keeps the checkpoint's float32, and its bfloat16 where the device has instructions for it; what
            else is narrower is widened to float32 (exact).
        trust_remote_code: run code that comes with the model. Never needed for architectures in transformers.
        allow_pickle: read .bin checkpoints where there are no safetensors.

    Raises:
        InputError: no such source, no weights or tokenizer in it, weights truncated, missing or not finite, a tokenizer
            whose ids the model has no rows for (or hardly uses), an unknown dtype.
    """
    folder = _folder_of(source, revision, allow_pickle)
    check_files(folder, allow_pickle=allow_pickle)
    model = _load_weights(folder, _torch_dtype(dtype), device, trust_remote_code, allow_pickle)
    tokenizer = _load_tokenizer(folder, trust_remote_code)
    _check_vocabulary(folder, model, tokenizer)
    return LoadedModel(model.eval(), tokenizer, folder)


def prefetch_model(source: str | Path, *, revision: str | None = None) -> Path:
    """Download the files that `load_model` will read, and read them once, so that the next model waits for no disk.

    For a thread beside the scoring of another model: it takes neither the GPU nor Python's lock. Returns the folder.

    Raises:
        InputError: no such source, or it cannot be downloaded.
    """
    folder = _folder_of(source, revision, allow_pickle=False)
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb", buffering=0) as stream:
            while stream.read(READ_BYTES):
                pass
    return folder


def _folder_of(source: str | Path, revision: str | None, allow_pickle: bool) -> Path:
    folder = Path(source)
    if folder.is_dir():
        return folder
    if isinstance(source, Path) or not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise InputError(
            f"model {str(source)!r}: found no such folder, expected a folder or a Hugging Face id (owner/name)"
        )
    if revision is None or revision == "main":
        raise InputError(
            f"model {source!r}: found revision {revision!r}, expected a commit or tag: "
            "what has no fixed revision cannot be scored twice"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.txt", "*.model", "*.py", "*.jinja", *(["*.bin"] if allow_pickle else [])]
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise InputError(f"model {source!r} at {revision!r}: cannot be downloaded: {error}") from error


def _torch_dtype(dtype: str) -> Any:
    import torch

    known = {"auto": "auto", **{name: getattr(torch, name) for name in ("bfloat16", "float32", "float64", "float16")}}
    if dtype not in known:
        raise InputError(f"dtype: found {dtype!r}, expected one of {', '.join(known)}")
    return known[dtype]


def _load_weights(
    folder: Path, dtype: Any, device: "str | torch.device", trust_remote_code: bool, allow_pickle: bool
) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": device},
            trust_remote_code=trust_remote_code,
            use_safetensors=None if allow_pickle else True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told in `info`, and refused below with the weight's name
        )
    # Whatever transformers raises here is about the folder's files; the sentence says which folder.
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"{folder}: cannot be loaded as a causal language model: {error}") from error
    absent = sorted([*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])])
    if absent:
        raise InputError(
            f"{folder}: found no usable weights for {absent[0]!r} ({len(absent)} in all); expected all of the model's"
        )
    slow = model.dtype == torch.bfloat16 and not multiplies_bfloat16(device)
    if dtype == "auto" and (slow or model.dtype == torch.float16):
        model = model.float()
    for name, parameter in model.named_parameters():
        low, high = torch.aminmax(parameter.detach())
        if not torch.isfinite(high - low):
            raise InputError(f"{folder}: weight {name!r} holds NaN or infinity, expected finite numbers")
    return model


def _load_tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    # The tokenizers library raises bare Exception on a broken tokenizer.json.
    except Exception as error:
        raise InputError(f"{folder}: its tokenizer cannot be loaded: {error}") from error


def _check_vocabulary(folder: Path, model: Any, tokenizer: Any) -> None:
    rows, tokens = model.get_input_embeddings().weight.shape[0], max(tokenizer.get_vocab().values(), default=-1) + 1
    if tokens > rows:
        raise InputError(
            f"{folder}: tokenizer has ids up to {tokens - 1}, expected below {rows}, the model's vocabulary"
        )
    if rows - tokens > max(UNUSED_ROWS, UNUSED_SHARE * rows):
        raise InputError(
            f"{folder}: tokenizer has {tokens} ids, expected nearly all of the model's {rows}: "
            "it seems to be the tokenizer of another model"
        )
