"""Estimates over more texts than memory holds: losses come in blocks of texts, every model's in each.

Rank correlations are taken text by text, so that blocks need nothing from each other. `gls` also needs how alike
models are over all texts, a first pass over the blocks: ``alike = likeness(blocks)``, then `estimate_blocks` of the
same blocks with ``partial(gls_given, alike=alike)``. A file holds one row per text
and one column of losses per model, as Parquet, which is read row group by row group; nulls are missing losses.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ppl_assets.errors import InputError, suggestion
from ppl_assets.estimation.rank_correlation import spearmanr

ROWS = 65_536


def parquet_blocks(path: Path | str, models: Sequence[str], *, rows: int = ROWS) -> Iterator[np.ndarray]:
    """Losses of `models` from a Parquet file, models x texts, at most `rows` texts at a time.

    Raises:
        InputError: a model without a column in the file.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        columns = file.schema_arrow.names
        for model in models:
            if model not in columns:
                raise InputError(f"{path}: found no column {model!r}{suggestion(model, columns)}")
        for batch in file.iter_batches(batch_size=rows, columns=list(models)):
            yield np.stack([batch.column(model).to_numpy(zero_copy_only=False) for model in models])


def estimate_blocks(
    blocks: Iterable[np.ndarray],
    y: np.ndarray,
    estimator: Callable[[np.ndarray, np.ndarray], np.ndarray] = spearmanr,
) -> np.ndarray:
    """`estimator` (of this room, any that goes text by text) over all blocks; shape as for the whole matrix.

    Raises:
        InputError: as the estimator; no block at all.
    """
    parts = [estimator(block, y) for block in blocks]
    if not parts:
        raise InputError("losses: found no block of texts, expected at least one")
    return np.concatenate(parts)
