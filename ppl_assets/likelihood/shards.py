"""Scores of a large corpus shard by shard: a generator that knows no paths, and a folder that it is resumed from.

A shard is a run of texts of similar length, fixed by the tokens alone, and its file is a function of shard and token
budget. So a run killed at any moment and resumed leaves the same files, byte for byte, as one that was left alone.
Shards begin with the longest texts: too large a budget fails at once, and what out-of-memory errors taught is kept
with the shards.

Several processes may write into a folder: what they write is the same.
"""

import hashlib
import io
import json
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.likelihood.batching import longest_first
from ppl_assets.likelihood.passes import affordable_budget
from ppl_assets.likelihood.scoring import TextScores, TooLong, score_tokens
from ppl_assets.likelihood.selftest import refusal_of
from ppl_assets.likelihood.tokenization import DAMAGED_NPZ, TokenizedTexts
from ppl_assets.progress import Progress, Report

# Raised whenever the same shard of the same model would get other numbers.
SCORING_VERSION = 2
# About a minute of a small model on one core, seconds on a GPU: what a crash costs at most.
SHARD_TOKENS = 1 << 18
STATISTICS = ("nll", "nll_first", "tokens", "bytes", "bytes_first", "status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What decides the scores of given tokens under a given model.

    Attributes:
        prefix: id of the start token.
        token_budget: positions per forward pass (None: by device), which decides the rounding of the last digits.
        too_long: as in `score_texts`.
        max_context: as in `score_texts`.
        window_overlap: as in `score_texts`.
        shard_tokens: tokens per shard; a text is never divided.
    """

    prefix: int
    token_budget: int | None = None
    too_long: TooLong = "windows"
    max_context: int | None = None
    window_overlap: int | None = None
    shard_tokens: int = SHARD_TOKENS

    def __post_init__(self) -> None:
        if self.shard_tokens < 1:
            raise InputError(f"shard_tokens: found {self.shard_tokens}, expected 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardScores:
    """The scores of one shard.

    Attributes:
        shard: its number, from 0.
        index: int64, positions of its texts in the corpus.
        scores: of these texts, in the order of `index`.
        token_budget: positions per forward pass that they were scored with.
    """

    shard: int
    index: np.ndarray
    scores: TextScores
    token_budget: int


def cut_shards(tokens_N: np.ndarray, shard_tokens: int) -> list[np.ndarray]:
    """Positions of the texts of each shard, longest texts first; a shard ends where `shard_tokens` are reached."""
    order = longest_first(tokens_N)
    before = np.cumsum(tokens_N[order]) - tokens_N[order]
    return np.split(order, np.flatnonzero(np.diff(before // shard_tokens)) + 1)


def score_shards(
    model: Any,
    tokens: TokenizedTexts,
    settings: Settings,
    *,
    done: Collection[int] = (),
    progress: Report | None = None,
) -> Iterator[ShardScores]:
    """Score the shards that are not in `done`, in order; progress counts the tokens of those alone.

    A shard during which memory ran out is scored again with the smaller budget, so that one budget made all of it.
    The model's verdict (`refusal_of`) is taken once, on the tokens of the whole corpus.
    """
    prefix_N = np.full(len(tokens), settings.prefix, np.int64)
    refusal_of(model, tokens, prefix_N)
    shards = cut_shards(tokens.tokens, settings.shard_tokens)
    left = [shard for shard in range(len(shards)) if shard not in done]
    total, finished, began = sum(int(tokens.tokens[shards[shard]].sum()) for shard in left), 0, time.perf_counter()

    def report(within: Progress) -> None:
        if progress is not None:
            seconds = time.perf_counter() - began
            progress(Progress(done=finished + within.done, total=total, unit="tokens", seconds=seconds))

    budget = affordable_budget(model, settings.token_budget)
    for shard in left:
        texts = tokens.select(shards[shard])
        scores = _score_shard(model, texts, settings, budget, report)
        while (learnt := affordable_budget(model, budget)) < budget:
            budget = learnt
            scores = _score_shard(model, texts, settings, budget, report)
        finished += len(texts.ids)
        yield ShardScores(shard=shard, index=shards[shard], scores=scores, token_budget=budget)


def _score_shard(
    model: Any, texts: TokenizedTexts, settings: Settings, token_budget: int, progress: Report
) -> TextScores:
    return score_tokens(
        model,
        texts,
        settings.prefix,
        token_budget=token_budget,
        too_long=settings.too_long,
        max_context=settings.max_context,
        window_overlap=settings.window_overlap,
        progress=progress,
    )


def resume_shards(
    folder: Path,
    model: Any,
    tokens: TokenizedTexts,
    settings: Settings,
    *,
    identity: str,
    progress: Report | None = None,
) -> TextScores:
    """The scores of all texts, from the shards in `folder` where they are there, and scored and stored there where not.

    Args:
        folder: shards go to a folder below it, named after the hash of model, tokens and settings.
        identity: what tells the model from all others: a digest of weights, configuration and code, and the dtype.
    """
    from ppl_assets.warehouse import remove_abandoned  # what only scores needs no library of tables

    store = folder / _store_name(identity, tokens, settings)
    store.mkdir(parents=True, exist_ok=True)
    remove_abandoned(store)
    read = {int(path.stem): _read(path) for path in sorted(store.glob("*.npz"))}
    stored = {shard: scored for shard, scored in read.items() if scored is not None}
    if stored:
        # What the run before this one found affordable: with another budget the last digits would differ.
        settings = replace(settings, token_budget=min(shard.token_budget for shard in stored.values()))
    for scored in score_shards(model, tokens, settings, done=stored, progress=progress):
        _write(store / f"{scored.shard:06d}.npz", scored)
        stored[scored.shard] = scored
    return _merge([stored[shard] for shard in sorted(stored)], len(tokens))


def _store_name(identity: str, tokens: TokenizedTexts, settings: Settings) -> str:
    digest = hashlib.sha256(json.dumps([SCORING_VERSION, identity, tokens.fingerprint, asdict(settings)]).encode())
    for array in (tokens.ids, tokens.offsets, tokens.bytes, tokens.bytes_first, tokens.lossy):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]


def _write(path: Path, scored: ShardScores) -> None:
    """The shard appears whole or not at all, and its bytes depend on nothing but its content."""
    from ppl_assets.warehouse import replace_file

    arrays = {name: getattr(scored.scores, name) for name in STATISTICS}
    refusal = np.array(scored.scores.refusal or "")
    buffer = io.BytesIO()
    np.savez(buffer, index=scored.index, token_budget=scored.token_budget, refusal=refusal, **arrays)
    replace_file(path, buffer.getbuffer())


def _read(path: Path) -> ShardScores | None:
    """A stored shard; None where the file is damaged (a .npz holds checksums), so that it is scored again."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            scores = TextScores(**{name: stored[name] for name in STATISTICS}, refusal=str(stored["refusal"]) or None)
            return ShardScores(
                shard=int(path.stem), index=stored["index"], scores=scores, token_budget=int(stored["token_budget"])
            )
    except DAMAGED_NPZ:
        return None


def _merge(shards: list[ShardScores], n_texts: int) -> TextScores:
    order = np.argsort(np.concatenate([shard.index for shard in shards]))
    assert len(order) == n_texts
    merged = {name: np.concatenate([getattr(shard.scores, name) for shard in shards])[order] for name in STATISTICS}
    refusals = [shard.scores.refusal for shard in shards if shard.scores.refusal is not None]
    return TextScores(**merged, refusal=refusals[0] if refusals else None)
