"""Forward passes over pieces of texts: right-padded batches of a token budget, in nats per piece.

Axes: P pieces, B rows of a batch, T positions of its longest row, R scored positions of a batch, N texts.
"""

import ctypes
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.likelihood.batching import Pieces, longest_first, next_batch
from ppl_assets.likelihood.head import Head, eval_mode, find_head, hidden_states, nll_of_rows
from ppl_assets.likelihood.tokenization import TokenizedTexts
from ppl_assets.progress import Progress, Report

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
# Nats of a batch's tokens, float64 [R]: the call waits until the device has computed them.
Arriving = Callable[[], np.ndarray]

# Batches have hundreds of shapes, and for each of the last 1,024 products oneDNN keeps what it compiled: 250 MB where a
# whole model takes 30. It asks when it is first used; the shapes of one batch are enough. A user's own setting stays.
for _variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_variable, "16")
# The same hundreds of shapes leave the heap in pieces: after so many batches, some seconds, its free pages go back to
# the system. Together with the above 100 MB instead of 250 after 1,000 texts in bf16, in the same time.
BATCHES_PER_TRIM = 32

# Activations of one forward stay in cache: measured 1.3-1.5 times the speed of a budget of 4,096.
CPU_TOKEN_BUDGET = 1024
# Below the one a GPU starves. Twice the other is 3 % faster at a width of 768, 4 % slower at 4,096, and takes twice the
# memory (docs/results/likelihood_gpu.json).
GPU_TOKEN_BUDGETS = (4096, 16384)
# Bytes per position and unit of width that one layer's activations take, in units of the weight's size (rough; an
# out-of-memory error halves the budget).
LIVE_ACTIVATIONS = 20

# oneDNN compiles every product of a shape that it has not kept, 4 to 6 ms each, as long as a layer takes. In bfloat16
# on a CPU widths of batches and rows of the head are therefore rounded up, so that neighbouring batches have one shape:
# 2 % more positions, a tenth less time. float32 goes to a library that compiles nothing.
WIDTH_STEP, ROWS_STEP = 16, 32

# What the last out-of-memory errors taught, per model and device.
_affordable: WeakKeyDictionary[Any, dict[str, int]] = WeakKeyDictionary()


def context_length(model: Any) -> int | None:
    """The most tokens a text may have under `model`, which sees the start token and all but the last, if stated."""
    import torch

    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    stated = [getattr(config, name, None) for name in ("max_position_embeddings", "max_sequence_length", "max_seq_len")]
    limits = [value for value in stated if isinstance(value, int) and value > 0]
    # RoBERTa's kin number positions from behind the padding id, which costs the table that many rows.
    for name, module in model.named_modules():
        if "position" in name and isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)
    return min(limits, default=None)


def affordable_budget(model: Any, token_budget: int | None = None) -> int:
    """`token_budget`, or the default for the model's device, cut down to what has fitted into its memory before."""
    import torch

    device = model.device
    if token_budget is None:
        token_budget = CPU_TOKEN_BUDGET
        if device.type == "cuda":
            width = model.config.get_text_config().hidden_size * model.dtype.itemsize
            fitting = torch.cuda.mem_get_info(device)[0] // (LIVE_ACTIVATIONS * width)
            token_budget = int(np.clip(fitting, *GPU_TOKEN_BUDGETS))
    return min(token_budget, _affordable.get(model, {}).get(str(device), token_budget))


def check_ids(model: Any, tokens: TokenizedTexts, prefix: np.ndarray | int) -> None:
    """Raise InputError where the model has no embedding for an id of `tokens`, or for a start token."""
    embeddings = model.get_input_embeddings()
    rows = getattr(embeddings, "num_embeddings", None) or model.config.get_text_config().vocab_size
    top = max(int(tokens.ids.max(initial=0)), int(np.max(prefix, initial=0)))
    if top >= rows:
        raise InputError(f"tokenizer: token id {top} found, expected below {rows}, the model's vocabulary")


def score_pieces(
    model: Any,
    tokens: TokenizedTexts,
    prefix_N: np.ndarray,
    pieces: Pieces,
    *,
    token_budget: int | None = None,
    progress: Report | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Nats of each piece and of its first token, float64 [P] each; not finite where the model's answer is not.

    On an out-of-memory error the budget is halved, for this model and device from then on.

    Raises:
        torch.OutOfMemoryError: a single row does not fit.
    """
    nll_P, first_P = np.zeros(len(pieces)), np.zeros(len(pieces))
    if not len(pieces):
        return nll_P, first_P
    scored_P = pieces.stop - pieces.start
    total, done, began = int(scored_P.sum()), 0, time.perf_counter()
    probe = _probe(model, tokens)
    with eval_mode(model), unplanned_attention(), hidden_states(model, head := find_head(model, probe)) as hidden_of:
        launch = partial(_score_batch, model, hidden_of, head, tokens, prefix_N, pieces)
        for batch, arrived in _one_ahead(_launched_batches(model, launch, pieces, token_budget)):
            nll = arrived()
            begin_B = np.concatenate([[0], np.cumsum(scored_P[batch])[:-1]])
            nll_P[batch], first_P[batch] = np.add.reduceat(nll, begin_B), nll[begin_B]
            done += len(nll)
            if progress is not None:
                seconds = time.perf_counter() - began
                progress(Progress(done=done, total=total, unit="tokens", seconds=seconds))
    return nll_P, first_P


@contextmanager
def unplanned_attention() -> Iterator[None]:
    """Attention kernels that take any shape; cuDNN's on a GPU are planned anew for every shape of a batch.

    A plan takes 50 ms, more than a batch of a small model: without, 3.7 times the speed at a width of 768, 1.4 times at
    2,048 (H100); where all plans were there already, they would save 3 %.
    """
    import torch

    planned = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(planned)


def _one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items, each handed out when the next one is there: a GPU works on that while this one is read."""
    waiting: list[Item] = []
    for item in items:
        waiting.append(item)
        if len(waiting) == 2:
            yield waiting.pop(0)
    yield from waiting


def _launched_batches(
    model: Any, launch: Callable[[np.ndarray, int], Arriving], pieces: Pieces, token_budget: int | None
) -> Iterator[tuple[np.ndarray, Arriving]]:
    """Each batch of pieces, longest first, with the nats of its tokens, which a GPU may still be computing."""
    order, done, launched = longest_first(pieces.length), 0, count(1)
    width_P = _widths(model, pieces.length)
    # Once: what a GPU has free shrinks while batches are in flight.
    token_budget = affordable_budget(model, token_budget)
    while done < len(order):
        batch = next_batch(order, width_P, done, affordable_budget(model, token_budget))
        try:
            arriving = launch(batch, int(width_P[batch[0]]))
        except RuntimeError as error:
            _halve_budget(model, error, rows=len(batch), length=int(width_P[batch[0]]))
            continue
        done += len(batch)
        if model.device.type == "cpu" and next(launched) % BATCHES_PER_TRIM == 0:
            _give_memory_back()
        yield batch, arriving


def _compiles_shapes(model: Any) -> bool:
    """Whether oneDNN multiplies for this model, and compiles each shape (see `WIDTH_STEP`)."""
    import torch

    return model.device.type == "cpu" and model.dtype == torch.bfloat16


def _widths(model: Any, length_P: np.ndarray) -> np.ndarray:
    """int64 [P]: positions of a batch of which this is the longest piece; rounded up no further than the context."""
    if not _compiles_shapes(model):
        return length_P
    rounded_P, limit = -(-length_P // WIDTH_STEP) * WIDTH_STEP, context_length(model)
    return rounded_P if limit is None else np.minimum(rounded_P, limit)


def _give_memory_back() -> None:
    """Free pages within the heap go back to the system, where the C library is one that can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _probe(model: Any, tokens: TokenizedTexts) -> "torch.Tensor":
    """ids_BT [2, 8] drawn from the texts: ids that this model is meant to see (others may stand for images)."""
    import torch

    ids_BT = np.random.default_rng(0).choice(tokens.ids, (2, 8))
    return torch.from_numpy(ids_BT.astype(np.int64)).to(model.device)


def _score_batch(
    model: Any,
    hidden_of: Callable[["torch.Tensor"], "torch.Tensor"],
    head: Head,
    tokens: TokenizedTexts,
    prefix_N: np.ndarray,
    pieces: Pieces,
    batch: np.ndarray,
    width: int,
) -> Arriving:
    """Nats of the scored tokens of the batch's pieces, one piece after the other; nothing here waits for a GPU.

    The batch is padded on the right to `width` positions.
    """
    length_B, scored_B = pieces.length[batch], (pieces.stop - pieces.start)[batch]
    stop_B = tokens.offsets[pieces.text[batch]] + pieces.stop[batch]
    # Right padding: any id will do, for a causal model never looks there.
    ids_BT = np.tile(prefix_N[pieces.text[batch]][:, None], (1, width))
    positions, targets = [], []
    for row, (stop, length, scored) in enumerate(zip(stop_B, length_B, scored_B, strict=True)):
        ids_BT[row, 1:length] = tokens.ids[stop - length : stop - 1]
        positions.append(row * width + np.arange(length - scored, length))
        targets.append(tokens.ids[stop - scored : stop])
    n_scored = int(scored_B.sum())
    spare = -n_scored % ROWS_STEP if _compiles_shapes(model) else 0
    position_R = np.pad(np.concatenate(positions), (0, spare), mode="edge")
    target_R = np.pad(np.concatenate(targets).astype(np.int64), (0, spare), mode="edge")
    hidden = hidden_of(_to_device(ids_BT, model.device)).flatten(0, 1)
    # By position, not by mask: a mask would make the host wait for the device.
    hidden_RD = hidden.index_select(0, _to_device(position_R, hidden.device))
    return _to_host(nll_of_rows(hidden_RD, _to_device(target_R, hidden.device), head)[:n_scored])


def _to_device(array: np.ndarray, device: "torch.device") -> "torch.Tensor":
    """`array` on `device`; from pinned memory to a GPU, for a plain copy waits until all before it is done."""
    import torch

    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _to_host(nll_R: "torch.Tensor") -> Arriving:
    """Send the nats on their way: a later copy would wait for the batches launched in between."""
    import torch

    if nll_R.device.type != "cuda":
        return lambda: nll_R.cpu().double().numpy()
    copy_R = torch.empty(nll_R.shape, dtype=nll_R.dtype, pin_memory=True)
    copy_R.copy_(nll_R, non_blocking=True)
    copied = torch.cuda.current_stream(nll_R.device).record_event()

    def arrived() -> np.ndarray:
        copied.synchronize()
        return copy_R.double().numpy()

    return arrived


def _halve_budget(model: Any, error: RuntimeError, *, rows: int, length: int) -> None:
    """Remember half of what did not fit; re-raise what is no lack of memory, or cannot be halved."""
    import torch

    out_of_memory = isinstance(error, torch.OutOfMemoryError) or any(
        said in str(error) for said in ("can't allocate memory", "out of memory")
    )
    if not out_of_memory:
        raise error
    if rows == 1:
        error.add_note(f"a single row of {length} positions does not fit into the memory of {model.device}")
        raise error
    _affordable.setdefault(model, {})[str(model.device)] = rows * length // 2
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
