"""Negative log-likelihood (nats) of texts under a causal language model: one definition for all models.

    bpb = nll / (ln 2 x bytes),   nll = - sum_i ln p(token_i | start token, token_1 ... token_{i-1})

over all tokens of the text, where the start token (BOS, or EOS where there is no BOS) is never scored. So every byte of
the text is paid once, one-token texts are defined, texts add up (sum of nll over sum of bytes), and it is the same
event under every tokenizer. The probability is that of one canonical tokenization; the sum over all of them is usually
within 0.5 % (arXiv 2306.17757).

Precision: forward pass in the model's dtype, logits and log-sum-exp in float32, sums in float64.

Does not know: files, partitions, domains. A model is whatever answers like a transformers causal LM.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.likelihood import batching
from ppl_assets.likelihood.passes import check_ids, context_length, score_pieces
from ppl_assets.likelihood.selftest import refusal_of
from ppl_assets.likelihood.tokenization import (
    TokenizedTexts,
    from_ids,
    raw_tokenizer,
    start_token,
    tokenize,
    without_limits,
)
from ppl_assets.progress import Report

if TYPE_CHECKING:
    import torch

TooLong = Literal["windows", "skip"]


class Status(StrEnum):
    """What became of a text. A number is present (finite nll) under ok and empty, and where said below."""

    ok = "ok"
    empty = "empty"  # no bytes; nll 0
    too_long = "too_long"  # more tokens than the model's context: nll from windows, or NaN where skipped
    non_finite = "non_finite"  # the model answered NaN or infinity; nll NaN
    tokenizer_lossy = "tokenizer_lossy"  # the ids do not give the text back: nll is that of what is left, hence too low
    refused = "refused"  # the model failed its self-test; nll NaN


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScores:
    """Sufficient statistics of N texts in input order; sums of them over texts are the statistics of a domain.

    Attributes:
        nll: float64 [N], nats of all tokens; NaN where there is no number.
        nll_first: float64 [N], nats of the first token given the start token; NaN likewise.
        tokens: int64 [N], scored tokens.
        bytes: int64 [N], UTF-8 bytes of the text.
        bytes_first: int64 [N], UTF-8 bytes of its first token.
        status: str [N], values of `Status`.
        refusal: why the model was refused, None where it was not.
    """

    nll: np.ndarray
    nll_first: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    bytes_first: np.ndarray
    status: np.ndarray
    refusal: str | None = None

    def __len__(self) -> int:
        return len(self.nll)

    @property
    def bpb(self) -> np.ndarray:
        """float64 [N]: bits per byte; NaN where there is no number or no byte."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.nll / (math.log(2) * self.bytes)


def score_texts(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    token_budget: int | None = None,
    dtype: "torch.dtype | str | None" = None,
    progress: Report | None = None,
    too_long: TooLong = "windows",
    max_context: int | None = None,
    window_overlap: int | None = None,
    prefix_id: int | None = None,
    reference_compat: bool = False,
) -> TextScores:
    """Score each text given one start token; nothing is dropped, every text has a status.

    Args:
        model: a loaded transformers causal LM; its mode and weights are left as they are.
        tokenizer: a transformers fast tokenizer or a `tokenizers.Tokenizer`.
        token_budget: positions per forward pass, padding included (default: by device and memory).
        dtype: dtype of the forward pass where it is not the model's own; the model is copied into it. fp16 only if
            asked for here.
        too_long: texts over the model's context are scored in windows, or skipped (nll NaN).
        max_context: a context below the model's own, for instance the smallest of a pool of models.
        window_overlap: tokens of context that a later window sees (default: half the context).
        prefix_id: the start token, where tokenizer and model name the wrong one or none.
        reference_compat: the numbers of the published script instead (see `reference_statistics`).

    Raises:
        InputError: an unusable tokenizer, start token, dtype or option.

    Example:
        >>> scores = score_texts(model, tokenizer, ["Hello, world."])  # doctest: +SKIP
        >>> scores.nll.sum() / (math.log(2) * scores.bytes.sum())  # doctest: +SKIP
    """
    prefix: int | np.ndarray
    if reference_compat:
        tokens, prefix = _reference_tokens(tokenizer, texts)
    else:
        tokens = tokenize(tokenizer, texts)
        prefix = start_token(tokenizer, model) if prefix_id is None else prefix_id
    scores = score_tokens(
        model,
        tokens,
        prefix,
        token_budget=token_budget,
        dtype=dtype,
        progress=progress,
        too_long=too_long,
        max_context=max_context,
        window_overlap=window_overlap,
    )
    return reference_statistics(scores) if reference_compat else scores


def score_tokens(
    model: Any,
    tokens: TokenizedTexts,
    prefix: "int | np.ndarray",
    *,
    token_budget: int | None = None,
    dtype: "torch.dtype | str | None" = None,
    progress: Report | None = None,
    too_long: TooLong = "windows",
    max_context: int | None = None,
    window_overlap: int | None = None,
) -> TextScores:
    """`score_texts` for texts tokenized before; `prefix` is the start token's id, of all texts or int64 [N]."""
    if too_long not in ("windows", "skip"):
        raise InputError(f"too_long: found {too_long!r}, expected 'windows' or 'skip'")
    for name, value in (("token_budget", token_budget), ("max_context", max_context)):
        if value is not None and value < 1:
            raise InputError(f"{name}: found {value}, expected 1 or more")
    model = _in_dtype(model, dtype)
    prefix_N = np.broadcast_to(np.asarray(prefix, np.int64), len(tokens))
    check_ids(model, tokens, prefix_N)
    window = _smallest(context_length(model), max_context)
    overlap = window // 2 if window_overlap is None and window else window_overlap or 0
    if window is not None and not 0 <= overlap < window:
        raise InputError(f"window_overlap: found {overlap}, expected 0 to below the context of {window} tokens")
    long_N = tokens.tokens > (np.inf if window is None else window)
    scored_N = ~long_N if too_long == "skip" else np.ones(len(tokens), bool)
    pieces = batching.cut_pieces(tokens.tokens, scored_N, window=window, overlap=overlap)
    refusal = refusal_of(model, tokens, prefix_N)
    if refusal is not None:
        return _refused(tokens, refusal)
    nll_P, first_P = score_pieces(model, tokens, prefix_N, pieces, token_budget=token_budget, progress=progress)
    nll_N = np.bincount(pieces.text, weights=nll_P, minlength=len(tokens))
    first_N = np.zeros(len(tokens))
    first_N[pieces.text[pieces.start == 0]] = first_P[pieces.start == 0]
    return _with_status(tokens, nll_N, first_N, scored_N, long_N)


def reference_statistics(scores: TextScores) -> TextScores:
    """Nats as the reference script (`get_error_and_bpb.py` of perplexity-correlations, commit 165d8c6) counts them.

    It takes the mean loss of the n - 1 tokens after the first of n, BOS among the n where the tokenizer adds one, and
    multiplies by n tokens: the first token is imputed by the mean (without BOS), or BOS is paid although never
    predicted (with BOS). A text of one token is 0/0 there, hence non_finite here. The first token has no nats of its
    own.
    """
    with_first = np.isin(scores.status, [Status.ok, Status.too_long]) | (scores.tokens > 0)
    n_tokens = scores.tokens + with_first
    with np.errstate(invalid="ignore", divide="ignore"):
        nll = np.where(scores.bytes == 0, 0.0, scores.nll / scores.tokens * n_tokens)
    return replace(
        scores,
        nll=nll,
        nll_first=np.full(len(scores), np.nan),
        tokens=n_tokens,
        status=np.where((scores.status == Status.ok) & np.isnan(nll), Status.non_finite, scores.status),
    )


def _with_status(
    tokens: TokenizedTexts, nll_N: np.ndarray, first_N: np.ndarray, scored_N: np.ndarray, long_N: np.ndarray
) -> TextScores:
    status = np.full(len(tokens), Status.ok.value, dtype="U15")
    status[long_N] = Status.too_long
    status[tokens.lossy] = Status.tokenizer_lossy
    status[tokens.bytes == 0] = Status.empty
    finite_N = np.isfinite(nll_N)
    status[~finite_N] = Status.non_finite
    # A text that left no token behind has no number either: its bytes were lost, not predicted for free.
    without_N = ~finite_N | ~scored_N | ((tokens.tokens == 0) & (tokens.bytes > 0))
    return TextScores(
        nll=np.where(without_N, np.nan, nll_N),
        nll_first=np.where(without_N, np.nan, first_N),
        tokens=tokens.tokens,
        bytes=tokens.bytes,
        bytes_first=tokens.bytes_first,
        status=status,
    )


def _refused(tokens: TokenizedTexts, refusal: str) -> TextScores:
    nothing = np.full(len(tokens), np.nan)
    return TextScores(
        nll=nothing,
        nll_first=nothing.copy(),
        tokens=tokens.tokens,
        bytes=tokens.bytes,
        bytes_first=tokens.bytes_first,
        status=np.full(len(tokens), Status.refused.value, dtype="U15"),
        refusal=refusal,
    )


def _reference_tokens(tokenizer: Any, texts: Sequence[str]) -> tuple[TokenizedTexts, np.ndarray]:
    """Ids as the tokenizer gives them by itself: the first of each text (never predicted there) apart from the rest."""
    plain = tokenize(tokenizer, texts)
    without_form = (plain.tokens == 0) & plain.lossy  # lone surrogates, which no tokenizer takes
    usable = ["" if skip else text for text, skip in zip(texts, without_form, strict=True)]
    encodings = without_limits(raw_tokenizer(tokenizer).to_str()).encode_batch(usable)
    ids = [encoding.ids if text else [] for text, encoding in zip(usable, encodings, strict=True)]
    rest = from_ids([np.array(row[1:], np.int32) for row in ids])
    first_N = np.array([row[0] if row else 0 for row in ids], np.int64)
    return replace(plain, ids=rest.ids, offsets=rest.offsets), first_N


def _in_dtype(model: Any, dtype: "torch.dtype | str | None") -> Any:
    import torch

    if dtype is None:
        if model.dtype == torch.float16:
            raise InputError(
                "model: found float16 weights, expected bfloat16 or float32 (activations of many models overflow "
                "float16); load it in one of them, or ask for float16 with dtype='float16'"
            )
        return model
    wanted = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(wanted, torch.dtype) or not wanted.is_floating_point:
        raise InputError(f"dtype: found {dtype!r}, expected 'bfloat16', 'float32', 'float64' or 'float16'")
    return model if model.dtype == wanted else copy.deepcopy(model).to(wanted)


def _smallest(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
