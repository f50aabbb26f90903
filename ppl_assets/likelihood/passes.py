"""Forward passes over pieces of texts: right-padded batches of a token budget, in nats per piece.

Axes: P pieces, B rows of a batch, T positions of its longest row, R scored positions of a batch, N texts.
"""

import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from ppl_assets.likelihood.batching import Pieces, longest_first, next_batch
from ppl_assets.likelihood.head import Head, eval_mode, find_head, hidden_states, nll_of_rows
from ppl_assets.likelihood.tokenization import TokenizedTexts
from ppl_assets.progress import Progress, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

# Activations of one forward stay in cache: measured 1.3-1.5 times the speed of a budget of 4,096.
CPU_TOKEN_BUDGET = 1024
# Below the one a GPU starves, above the other nothing is gained.
GPU_TOKEN_BUDGETS = (4096, 65536)
# Bytes per position and unit of width that one layer's activations take, in units of the weight's size (rough; an
# out-of-memory error halves the budget).
LIVE_ACTIVATIONS = 20

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
    order, done, done_tokens, began = longest_first(pieces.length), 0, 0, time.perf_counter()
    with eval_mode(model):
        head = find_head(model, _probe(model, tokens))
        with hidden_states(model, head) as hidden_of:
            while done < len(order):
                batch = next_batch(order, pieces.length, done, affordable_budget(model, token_budget))
                try:
                    nll_P[batch], first_P[batch] = _score_batch(model, hidden_of, head, tokens, prefix_N, pieces, batch)
                except RuntimeError as error:
                    _halve_budget(model, error, rows=len(batch), length=int(pieces.length[batch[0]]))
                    continue
                done += len(batch)
                done_tokens += int(scored_P[batch].sum())
                if progress is not None:
                    seconds = time.perf_counter() - began
                    total = int(scored_P.sum())
                    progress(Progress(done=done_tokens, total=total, unit="tokens", seconds=seconds))
    return nll_P, first_P


def _probe(model: Any, tokens: TokenizedTexts) -> "torch.Tensor":
    """ids_BT [2, 8] drawn from the texts: ids that this model is meant to see (others may stand for images)."""
    import torch

    ids_BT = np.random.default_rng(0).choice(tokens.ids, (2, 8))
    return torch.from_numpy(ids_BT.astype(np.int64)).to(model.device)


def _score_batch(
    model: Any,
    hidden_of: "Callable[[torch.Tensor], torch.Tensor]",
    head: Head,
    tokens: TokenizedTexts,
    prefix_N: np.ndarray,
    pieces: Pieces,
    batch: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Nats of the batch's pieces and of their first tokens, float64 [B] each."""
    import torch

    length_B, scored_B = pieces.length[batch], (pieces.stop - pieces.start)[batch]
    text_B, first_B = pieces.text[batch], tokens.offsets[pieces.text[batch]]
    ids_BT = np.tile(prefix_N[text_B][:, None], (1, int(length_B.max())))
    is_scored_BT = np.zeros(ids_BT.shape, bool)
    targets = []
    for row, piece in enumerate(batch):
        begin, stop = first_B[row] + pieces.context[piece], first_B[row] + pieces.stop[piece]
        ids_BT[row, 1 : length_B[row]] = tokens.ids[begin : stop - 1]
        is_scored_BT[row, length_B[row] - scored_B[row] : length_B[row]] = True
        targets.append(tokens.ids[stop - scored_B[row] : stop])
    hidden_BTD = hidden_of(torch.from_numpy(ids_BT).to(model.device))
    hidden_RD = hidden_BTD[torch.from_numpy(is_scored_BT).to(hidden_BTD.device)]
    target_R = torch.from_numpy(np.concatenate(targets).astype(np.int64)).to(hidden_RD.device)
    nll_R = nll_of_rows(hidden_RD, target_R, head).double().cpu().numpy()
    begin_B = np.concatenate([[0], np.cumsum(scored_B)[:-1]])
    return np.add.reduceat(nll_R, begin_B), nll_R[begin_B]


def _halve_budget(model: Any, error: RuntimeError, *, rows: int, length: int) -> None:
    """Remember half of what did not fit; re-raise what is no lack of memory, or cannot be halved."""
    import torch

    out_of_memory = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    if not out_of_memory:
        raise error
    if rows == 1:
        error.add_note(f"a single row of {length} positions does not fit into the memory of {model.device}")
        raise error
    _affordable.setdefault(model, {})[str(model.device)] = rows * length // 2
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
