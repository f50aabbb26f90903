"""Language models and their tokenizers from a folder or from the Hugging Face hub, checked before they are used.

Only safetensors are read: a pickle runs whatever its author put in it. What transformers would repair in silence (a
weight that is missing is initialised at random, a branch name means other weights tomorrow) is refused here.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_assets.errors import InputError

if TYPE_CHECKING:
    import torch

WEIGHTS_INDEX = "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer_config.json",
)
# Rows of the embedding that no token uses: padding to a multiple of 64 to 512, or room for new tokens. Known models
# stay below 3 % (DeepSeek 7B: 2,385 of 102,400); more means a tokenizer of another model.
UNUSED_ROWS, UNUSED_SHARE = 1024, 0.1
READ_BYTES = 1 << 24


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
        dtype: "auto" keeps the checkpoint's bfloat16 or float32, and widens float16 to float32 (exact).
        trust_remote_code: run code that comes with the model. Never needed for architectures in transformers.
        allow_pickle: read .bin checkpoints where there are no safetensors.

    Raises:
        InputError: no such source, no weights or tokenizer in it, weights truncated, missing or not finite, a tokenizer
            whose ids the model has no rows for (or hardly uses), an unknown dtype.
    """
    folder = _folder_of(source, revision, allow_pickle)
    _check_files(folder, allow_pickle)
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


def weights_digest(folder: Path) -> str:
    """SHA-256 (hex) over names, types, shapes and bytes of all tensors in `folder`'s safetensors.

    Independent of the model's name, of file names and of how the tensors are spread over files: the same weights under
    two names have the same digest, a changed revision has another.

    Raises:
        InputError: no safetensors, or a truncated file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder}: found no *.safetensors, expected the weights of a model")
    entries = sorted(entry for file in files for entry in _tensor_digests(file))
    return hashlib.sha256(json.dumps(entries, separators=(",", ":")).encode()).hexdigest()


def _tensor_digests(file: Path) -> list[tuple[str, str, list[int], str]]:
    header, start = _read_header(file)
    digests = []
    with file.open("rb") as stream:
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            stream.seek(start + begin)
            digest = hashlib.sha256()
            for left in range(end - begin, 0, -READ_BYTES):
                digest.update(stream.read(min(left, READ_BYTES)))
            digests.append((name, tensor["dtype"], tensor["shape"], digest.hexdigest()))
    return digests


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The tensors that a safetensors file announces, and where their bytes begin; refuses a file of another size."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if 8 + length <= size else None
    except ValueError:  # neither UTF-8 nor JSON
        header = None
    if not isinstance(header, dict):
        raise InputError(
            f"{file}: found {size} bytes that are no safetensors file; it may be truncated: download it again"
        )
    header.pop("__metadata__", None)
    expected = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if size != expected:
        raise InputError(f"{file}: found {size} bytes, expected {expected} by its header; download it again")
    return header, 8 + length


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


def _check_files(folder: Path, allow_pickle: bool) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: found no config.json, expected a model folder as `save_pretrained` writes it")
    files = sorted(folder.glob("*.safetensors"))
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLE_SUFFIXES)
    if not files and not (pickles and allow_pickle):
        found = f"only pickled weights ({', '.join(pickles)})" if pickles else "no weights"
        raise InputError(f"{folder}: found {found}, expected *.safetensors")
    index = folder / WEIGHTS_INDEX
    named = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else set()
    missing = sorted(named - {file.name for file in files})
    if missing:
        raise InputError(f"{folder}: found no {', '.join(missing)}, expected by {WEIGHTS_INDEX}")
    for file in files:
        _read_header(file)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(f"{folder}: found no tokenizer, expected tokenizer.json")


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
    if dtype == "auto" and model.dtype == torch.float16:
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
