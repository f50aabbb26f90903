"""Lists as Parquet: the domains of a mixture, and the sampled pages of these domains."""

import io

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.export.blend import Blend

# Models are tested on these pages: training on them would spoil every later measurement.
_KEPT_FROM_TRAINING = "benchmark"


def as_domain_list(blend: Blend) -> bytes:
    """Columns domain, weight, tokens, decision, path; one row per domain."""
    columns = ("domain", "weight", "tokens", "decision", "path")
    rows = [{column: getattr(share, column) for column in columns} for share in blend.shares]
    schema = {
        "domain": pl.String,
        "weight": pl.Float64,
        "tokens": pl.Int64,
        "decision": pl.String,
        "path": pl.String,
    }
    return _parquet(pl.DataFrame(rows, schema=schema))


def as_page_list(blend: Blend, pages: pl.DataFrame) -> bytes:
    """Columns page_id, domain, split, bytes, tokens, weight (of the domain); one row per sampled page.

    `pages` is table ``pages``. Only pages that the study sampled are known here, not all that a domain holds, and
    pages that models are tested on are left out.

    Raises:
        InputError: no sampled page belongs to the mixture.
    """
    weights = pl.DataFrame(
        [(share.domain, share.weight) for share in blend.shares],
        schema={"domain": pl.String, "weight": pl.Float64},
        orient="row",
    )
    listed = (
        pages.filter(pl.col("split") != _KEPT_FROM_TRAINING)
        .join(weights, on="domain")
        .sort(["weight", "domain", "page_id"], descending=[True, False, False])
        .select("page_id", "domain", "split", "bytes", "tokens", "weight")
    )
    if listed.is_empty():
        raise InputError(
            f"--format pages: no sampled page belongs to the mixture of target {blend.target!r}; expected a study that "
            "reads text (of imported losses the text is elsewhere: export --format domains instead)"
        )
    return _parquet(listed)


def _parquet(rows: pl.DataFrame) -> bytes:
    file = io.BytesIO()
    rows.write_parquet(file)
    return file.getvalue()
