"""Checks of one model with one tokenizer, in seconds, before hours are spent on them.

A model that fails is refused with the number that failed: most faults of a model or tokenizer file (a tokenizer of
another model, text normalised away, attention that looks ahead, scores that depend on the batch) yield plausible bits
per byte otherwise.

Does not know: whether a model is any good. A model just initialised passes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.likelihood import batching
from ppl_assets.likelihood.head import Head, eval_mode, model_logits, nll_of_rows
from ppl_assets.likelihood.passes import check_ids, context_length, score_pieces, unplanned_attention
from ppl_assets.likelihood.tokenization import TokenizedTexts, from_ids, start_token, tokenize

# Deviation of a row's nats, batched against alone, relative to them (plus ROUNDED_NATS): what rounding in the model's
# dtype explains. float32 is the bound that the exactness of all scores is stated with; in bf16 a token's nats are noisy
# by about 1e-2, in deep models several times that.
AGREEMENT = {"float64": 1e-9, "float32": 1e-5, "bfloat16": 5e-3, "float16": 2e-3}
# Logits of real models reach 100, so that a row of few tokens is rounded by more than its few nats let expect.
ROUNDED_NATS = 20.0
# Lengths of the rows that are scored batched and alone; they straddle the block sizes of recurrent kernels.
PROBE_LENGTHS = (130, 40, 23, 7, 1)
# Below, a tokenizer has merged what no tokenizer merges (or lost it); above, it has more tokens than bytes.
TOKENS_PER_BYTE = (0.05, 1.0)
# A study scores texts under all of its models: one that loses a tenth of them costs the study those texts.
MIN_ROUND_TRIP = 0.9
# Texts scored for the mean, and the most tokens of each: its noise is far below the 1 nat it is compared with.
MEAN_NLL_TEXTS, MEAN_NLL_TOKENS = 16, 256
# Texts of several kinds, for callers who bring none.
PASSAGES = (
    "The committee met on Tuesday to consider the proposal, which had been delayed twice since the spring.",
    "Water boils at a lower temperature in the mountains, because the air presses on it with less force there.",
    "She asked whether the train had left. It had not; the signal at the bridge was still red, and nobody knew why.",
    "def mean(values):\n    total = 0.0\n    for x in values:\n        total += x\n    return total / len(values)\n",
    "In 1969, 4 of the 12 samples (33.3%) weighed more than 1,250 kg; the others were lost at sea.",
    "- First, read the instructions.\n- Then gather the tools: a saw, two clamps, and glue.\n- Finally, measure twice.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One number and the range it must lie in."""

    name: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        return self.low <= self.value <= self.high  # False for NaN

    def __str__(self) -> str:
        return f"{self.name}: found {self.value:.6g}, expected {self.low:.6g} to {self.high:.6g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """The verdict on one model with one tokenizer."""

    checks: tuple[Check, ...]

    @property
    def refusal(self) -> str | None:
        """The failed checks with their numbers, None where all passed."""
        return "; ".join(str(check) for check in self.checks if not check.passed) or None

    def require(self, name: str) -> None:
        """Raise InputError with the failing numbers of the model `name`."""
        if self.refusal is not None:
            raise InputError(f"model {name}: refused by its self-test: {self.refusal}")


def self_test(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str] | None = None,
    *,
    tokenizer_file: Path | None = None,
    prefix_id: int | None = None,
    min_round_trip: float = MIN_ROUND_TRIP,
) -> SelfTest:
    """Round trip, tokens per byte, ids against the tokenizer's file, batched against alone, and mean nats per token.

    Args:
        texts: a sample of what will be scored, about a thousand (default: a few passages of English and code).
        tokenizer_file: tokenizer.json that the loaded tokenizer must agree with (default: in the folder it came from,
            if there).
        prefix_id: as in `score_texts`.

    Raises:
        InputError: an unusable tokenizer (ids the model has no rows for among it), no start token, or no text.
    """
    texts = [text for text in (PASSAGES if texts is None else texts) if text]
    if not texts:
        raise InputError("texts: found none with a byte in it, expected a sample of what will be scored")
    tokens = tokenize(tokenizer, texts)
    survived = float(1 - tokens.lossy.mean())
    checks = [
        Check(name="share of texts that survive a round trip", value=survived, low=min_round_trip, high=1),
        _check_tokens_per_byte(tokens),
    ]
    file = _tokenizer_file(tokenizer) if tokenizer_file is None else tokenizer_file
    if file is not None:
        checks.append(_check_same_ids(tokenizer, file, texts))
    if len(tokens.ids):
        prefix = start_token(tokenizer, model) if prefix_id is None else prefix_id
        check_ids(model, tokens, prefix)
        checks += [check_batching(model, tokens.ids, prefix), _check_mean_nll(model, tokens, prefix)]
    return SelfTest(checks=tuple(checks))


_verdicts: WeakKeyDictionary[Any, dict[str, str | None]] = WeakKeyDictionary()


def refusal_of(model: Any, tokens: TokenizedTexts, prefix_N: np.ndarray) -> str | None:
    """Why the model's scores cannot be trusted whatever the text (`check_batching`), or None; asked once per model."""
    if not len(tokens.ids):
        return None
    verdicts = _verdicts.setdefault(model, {})
    key = f"{model.dtype} {model.device}"
    if key not in verdicts:
        check = check_batching(model, tokens.ids, int(prefix_N[0]))
        verdicts[key] = None if check.passed else str(check)
    return verdicts[key]


def check_batching(model: Any, ids: np.ndarray, prefix: int) -> Check:
    """Largest relative deviation of a row's nats between one padded batch and the model alone with that row.

    The rows, of mixed length, are drawn from `ids`. Attention that looks ahead, positions counted from the end and
    routing across the batch show here: a model is causal, or it is refused.
    """
    limit, generator = context_length(model) or max(PROBE_LENGTHS), np.random.default_rng(1)
    probe = from_ids([generator.choice(ids, min(length, limit)) for length in PROBE_LENGTHS])
    batched = _nll_batched(model, probe, prefix)
    with eval_mode(model), unplanned_attention():
        alone = np.array([_nll_alone(model, prefix, probe.ids[a:b]) for a, b in pairwise(probe.offsets)])
    deviation = np.abs(batched - alone) / (ROUNDED_NATS + np.abs(alone))
    high = AGREEMENT.get(str(model.dtype).removeprefix("torch."), 0.0)
    return Check(name="batched against alone, relative", value=float(deviation.max()), low=0, high=high)


def _nll_batched(model: Any, rows: TokenizedTexts, prefix: int) -> np.ndarray:
    """Nats of each row, float64; all rows in one batch, so that the shortest are padded most."""
    pieces = batching.cut_pieces(rows.tokens, np.ones(len(rows), bool), window=None, overlap=0)
    budget = len(rows) * int(rows.tokens.max())
    return score_pieces(model, rows, np.full(len(rows), prefix), pieces, token_budget=budget)[0]


def _nll_alone(model: Any, prefix: int, ids: np.ndarray) -> float:
    """Nats of one row from the model's own logits."""
    import torch

    row = torch.from_numpy(np.concatenate([[prefix], ids]).astype(np.int64)).to(model.device)
    logits_TV = model_logits(model, row[None, :-1])[0]
    return float(nll_of_rows(logits_TV, row[1:].to(logits_TV.device), Head(layer=None)).double().sum())


def _check_mean_nll(model: Any, tokens: TokenizedTexts, prefix: int) -> Check:
    """Nats per token, at most 1 above guessing evenly: what no model exceeds with its own tokenizer and weights."""
    some = np.random.default_rng(2).permutation(np.flatnonzero(tokens.tokens))[:MEAN_NLL_TEXTS]
    most = min(context_length(model) or MEAN_NLL_TOKENS, MEAN_NLL_TOKENS)
    rows = from_ids([tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]][:most] for i in some])
    mean = _nll_batched(model, rows, prefix).sum() / len(rows.ids)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return Check(name="mean nats per token", value=float(mean), low=0, high=math.log(vocabulary) + 1)


def _check_tokens_per_byte(tokens: TokenizedTexts) -> Check:
    low, high = TOKENS_PER_BYTE
    ratio = len(tokens.ids) / max(int(tokens.bytes.sum()), 1)
    return Check(name="tokens per byte", value=ratio, low=low, high=high)


def _tokenizer_file(tokenizer: Any) -> Path | None:
    folder = getattr(tokenizer, "name_or_path", None)
    file = Path(folder) / "tokenizer.json" if folder else None
    return file if file is not None and file.is_file() else None


def _check_same_ids(tokenizer: Any, file: Path, texts: Sequence[str]) -> Check:
    """Share of texts that the loaded tokenizer and its file agree on: transformers rebuilds some tokenizers wrongly."""
    import tokenizers

    own = tokenize(tokenizer, texts)
    stored = tokenize(tokenizers.Tokenizer.from_file(str(file)), texts)
    same = [
        np.array_equal(own.ids[a:b], stored.ids[c:d])
        for (a, b), (c, d) in zip(pairwise(own.offsets), pairwise(stored.offsets), strict=True)
    ]
    return Check(name=f"share of texts tokenized as by {file.name}", value=float(np.mean(same)), low=1, high=1)
