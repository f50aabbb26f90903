"""Losses as rows of their tables: chunks scored by a model, and their sums by domain."""

from pathlib import Path

import numpy as np
import polars as pl

from ppl_assets.likelihood.loading import LoadedModel
from ppl_assets.likelihood.scoring import TextScores, TooLong, score_tokens
from ppl_assets.likelihood.selftest import self_test
from ppl_assets.likelihood.tokenization import load_or_tokenize, start_token
from ppl_assets.progress import Report
from ppl_assets.schema import TABLES
from ppl_assets.warehouse import Lake, run_sql


def chunk_rows(
    slug: str,
    chunks: pl.DataFrame,
    loaded: LoadedModel,
    *,
    token_folder: Path,
    token_budget: int | None,
    too_long: TooLong,
    progress: Report,
) -> pl.DataFrame:
    """Rows of ``chunk_logliks`` for one model, in the order of `chunks`.

    Token ids are kept in `token_folder` and shared by every model with the same tokenizer.

    Raises:
        InputError: the model fails its self-test; the message holds the failing number.
    """
    texts = chunks["text"].to_list()
    self_test(loaded.model, loaded.tokenizer).require(slug)
    scores = score_tokens(
        loaded.model,
        load_or_tokenize(token_folder, loaded.tokenizer, texts),
        start_token(loaded.tokenizer, loaded.model),
        token_budget=token_budget,
        too_long=too_long,
        progress=progress,
    )
    return _frame(slug, chunks["chunk_id"], scores)


def domain_rows(lake: Lake, slug: str) -> pl.DataFrame:
    """Rows of ``domain_logliks`` for one model: scored chunks summed by domain, and imported domains."""
    return run_sql(lake, "domain_logliks", partitions={"chunk_logliks": [slug]}, parameters={"slug": slug})


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
