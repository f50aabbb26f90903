"""Losses as rows of their tables: chunks scored by a model, and their sums by domain."""

from pathlib import Path

import numpy as np
import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.likelihood.loading import LoadedModel
from ppl_assets.likelihood.scoring import TextScores, TooLong
from ppl_assets.likelihood.selftest import self_test
from ppl_assets.likelihood.shards import Settings, resume_shards
from ppl_assets.likelihood.tokenization import load_or_tokenize, start_token
from ppl_assets.model_files import weights_digest
from ppl_assets.progress import Report
from ppl_assets.schema import TABLES
from ppl_assets.warehouse import Lake, run_sql

# Enough of a study's own text to tell a broken model or tokenizer, few enough for seconds.
_SELF_TEST_TEXTS = 200


def chunk_rows(
    slug: str,
    chunks: pl.DataFrame,
    loaded: LoadedModel,
    *,
    token_folder: Path,
    shard_folder: Path,
    token_budget: int | None,
    too_long: TooLong,
    progress: Report,
) -> pl.DataFrame:
    """Rows of ``chunk_logliks`` for one model, in the order of `chunks`.

    Token ids are kept in `token_folder` and shared by every model with the same tokenizer. Finished shards are kept in
    `shard_folder`, from where a run that was killed goes on; the caller deletes it once the rows are stored.

    Raises:
        InputError: the model fails its self-test; the message holds the failing number.
    """
    texts = chunks["text"].to_list()
    sample = texts[:: max(1, len(texts) // _SELF_TEST_TEXTS)]
    self_test(loaded.model, loaded.tokenizer, sample).require(slug)
    scores = resume_shards(
        shard_folder,
        loaded.model,
        load_or_tokenize(token_folder, loaded.tokenizer, texts),
        Settings(prefix=start_token(loaded.tokenizer, loaded.model), token_budget=token_budget, too_long=too_long),
        identity=f"{weights_digest(loaded.folder)} {loaded.model.dtype}",
        progress=progress,
    )
    return _frame(slug, chunks["chunk_id"], scores)


def domain_rows(lake: Lake, slug: str) -> pl.DataFrame:
    """Rows of ``domain_logliks`` for one model: scored chunks summed by domain, and imported domains.

    Raises:
        InputError: the model has neither.
    """
    rows = run_sql(lake, "domain_logliks", partitions={"chunk_logliks": [slug]}, parameters={"slug": slug})
    if rows.is_empty():
        raise InputError(f"model {slug!r}: no losses; expected scored chunks (chunk_logliks) or imported losses")
    return rows


def _frame(slug: str, chunk_ids: pl.Series, scores: TextScores) -> pl.DataFrame:
    columns = {
        "slug": np.repeat(slug, len(chunk_ids)),
        "chunk_id": chunk_ids,
        "nll": scores.nll,
        "nll_first": scores.nll_first,
        "tokens": scores.tokens,
        "bytes": scores.bytes,
        "bytes_first": scores.bytes_first,
        "status": scores.status,
    }
    return pl.DataFrame(columns, schema=TABLES["chunk_logliks"].polars_schema).with_columns(
        pl.col("nll", "nll_first").fill_nan(None)
    )
