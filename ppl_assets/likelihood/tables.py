"""Losses as rows of their tables: chunks scored by a model, and their sums by domain.

What a text costs a model does not depend on which sample the text is in: rows are kept by the digest of the text and of
what scored it, and a corpus that changes costs the scoring of its new chunks alone.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ppl_assets.corpus import text_digest
from ppl_assets.errors import InputError
from ppl_assets.likelihood.cost import forward_flops_per_token, matmul_flops_per_second
from ppl_assets.likelihood.loading import LoadedModel
from ppl_assets.likelihood.scoring import Status, TextScores, TooLong
from ppl_assets.likelihood.selftest import self_test
from ppl_assets.likelihood.shards import Settings, resume_shards
from ppl_assets.likelihood.tokenization import load_or_tokenize, start_token
from ppl_assets.model_files import weights_digest
from ppl_assets.progress import Progress, Report
from ppl_assets.schema import TABLES
from ppl_assets.warehouse import Lake, run_sql

# Enough of a study's own text to tell a broken model or tokenizer, few enough for seconds.
_SELF_TEST_TEXTS = 200


def known_rows(lake: Lake, slug: str, chunks: pl.DataFrame, scoring_digest: str) -> pl.DataFrame:
    """Rows of ``chunk_logliks`` that need no scoring: a model's earlier rows of the same texts, scored alike.

    Rounding aside (a text was scored in another batch), they are what scoring again would give. An earlier part whose
    content is not what was written counts as absent.

    Args:
        chunks: rows of the table ``chunks`` as they are now.
        scoring_digest: hash of everything but the text that decides a number.
    """
    table = TABLES["chunk_logliks"]
    earlier = lake.read(table.name, slug) if lake.verify(table.name, slug) else table.polars_schema.to_frame()
    if earlier.columns != list(table.by_name):
        earlier = table.polars_schema.to_frame()
    scored = earlier.filter((pl.col("scoring_digest") == scoring_digest) & (pl.col("status") != Status.refused))
    now = chunks.select("chunk_id", text_digest=_digests(chunks))
    return now.join(scored.drop("chunk_id").unique("text_digest"), on="text_digest").select(earlier.columns)


def chunk_rows(
    slug: str,
    chunks: pl.DataFrame,
    loaded: LoadedModel,
    *,
    sample: list[str],
    scoring_digest: str,
    token_folder: Path,
    shard_folder: Path,
    token_budget: int | None,
    too_long: TooLong,
    max_context: int | None,
    progress: Report,
) -> pl.DataFrame:
    """Rows of ``chunk_logliks`` for one model; chunks with the same text are scored once.

    Token ids are kept in `token_folder` and shared by every model with the same tokenizer. Finished shards are kept in
    `shard_folder`, from where a run that was killed goes on; the caller deletes it once the rows are stored.

    Args:
        sample: texts of the study that the self-test is taken on.
        scoring_digest: as in `known_rows`; shards of another one are not gone on from.
        token_budget, too_long, max_context: as in `score_texts`.

    Raises:
        InputError: the model fails its self-test; the message holds the failing number.
    """
    self_test(loaded.model, loaded.tokenizer, sample).require(slug)
    keyed = chunks.select("chunk_id", "text", text_digest=_digests(chunks))
    distinct = keyed.unique("text_digest", keep="first", maintain_order=True)
    scores = resume_shards(
        shard_folder,
        loaded.model,
        load_or_tokenize(token_folder, loaded.tokenizer, distinct["text"].to_list()),
        Settings(
            prefix=start_token(loaded.tokenizer, loaded.model),
            token_budget=token_budget,
            too_long=too_long,
            max_context=max_context,
        ),
        # The same weights under another configuration or other remote code are another model.
        identity=f"{scoring_digest} {weights_digest(loaded.folder)} {loaded.model.dtype}",
        progress=_with_share_of_peak(progress, loaded.model),
    )
    scored = _frame(slug, distinct["text_digest"], scores, scoring_digest)
    return keyed.drop("text").join(scored, on="text_digest").select(list(TABLES["chunk_logliks"].by_name))


def self_test_sample(chunks: pl.DataFrame) -> list[str]:
    """Texts spread over the whole corpus."""
    return chunks["text"].gather_every(max(1, chunks.height // _SELF_TEST_TEXTS)).to_list()


def domain_rows(lake: Lake, slug: str, *, scored: bool) -> pl.DataFrame:
    """Rows of ``domain_logliks`` for one model: scored chunks summed by domain, and imported domains.

    Args:
        scored: whether the study scores the model; if not, chunks that are left from when it did are not read.

    Raises:
        InputError: the model has neither.
    """
    partitions = {"chunk_logliks": [slug] if scored else []}
    rows = run_sql(lake, "domain_logliks", partitions=partitions, parameters={"slug": slug})
    if rows.is_empty():
        raise InputError(f"model {slug!r}: no losses; expected scored chunks (chunk_logliks) or imported losses")
    return rows


def _digests(chunks: pl.DataFrame) -> pl.Series:
    return pl.Series([text_digest(text) for text in chunks["text"]], dtype=pl.Binary)


def _with_share_of_peak(progress: Report, model: Any) -> Report:
    """Progress that also says how much of what the device can multiply is put to use."""
    peak_tokens = matmul_flops_per_second(model.device, model.dtype) / forward_flops_per_token(model)

    def report(done: Progress) -> None:
        progress(replace(done, share_of_peak=done.rate / peak_tokens))

    return report


def _frame(slug: str, digests: pl.Series, scores: TextScores, scoring_digest: str) -> pl.DataFrame:
    columns = {
        "slug": np.repeat(slug, len(digests)),
        "text_digest": digests,
        "nll": scores.nll,
        "nll_first": scores.nll_first,
        "tokens": scores.tokens,
        "bytes": scores.bytes,
        "bytes_first": scores.bytes_first,
        "status": scores.status,
        "scoring_digest": np.repeat(scoring_digest, len(digests)),
    }
    declared = TABLES["chunk_logliks"].polars_schema
    schema = {name: declared[name] for name in columns}
    return pl.DataFrame(columns, schema=schema).with_columns(pl.col("nll", "nll_first").fill_nan(None))
