"""Losses as a file for another site: numbers, names and fingerprints, and no text.

Text that may not leave a site is scored there; ``ppl-assets import bpb`` takes the file in elsewhere. A model is
recognised by its revision, so that losses of other weights under the same name are refused there.
"""

from pathlib import Path

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.warehouse import replace_parquet

COLUMNS = ("slug", "family", "source", "revision", "domain", "nll", "tokens", "bytes", "bpb", "fingerprint")


def export_losses(workspace: Workspace, out: Path) -> pl.DataFrame:
    """Write the losses of every registered model on every domain to the Parquet file `out`; returns its rows.

    A domain of which a model has no loss is left out.

    Raises:
        InputError: there are none, or `out` is no file that can be written.
    """
    if out.suffix != ".parquet" or out.is_dir():
        raise InputError(f"--out: found {out}, expected the path of a .parquet file")
    parts = [_of_model(workspace, model) for model in workspace.models().iter_rows(named=True)]
    rows = pl.concat(parts) if parts else pl.DataFrame()
    if rows.is_empty():
        raise InputError(f"{workspace.settings.state}: holds no losses yet; run `ppl-assets run` first")
    replace_parquet(out, rows)
    return rows


def _of_model(workspace: Workspace, model: dict[str, object]) -> pl.DataFrame:
    slug, source = str(model["slug"]), str(model["source"])
    footer = workspace.lake.footer("domain_logliks", slug) if slug in workspace.present("domain_logliks") else None
    rows = workspace.lake.read_partitions("domain_logliks", [slug] if footer else [])
    # Where a folder lies is nobody else's business; a repository can be asked for.
    public = None if Path(source).is_absolute() else source
    stated = {"family": model["family"], "source": public, "revision": model["revision"]}
    added = stated | {"fingerprint": footer.fingerprint if footer else None}
    literals = {name: pl.lit(value, dtype=pl.String) for name, value in added.items()}
    return rows.filter(pl.col("bpb").is_not_null()).with_columns(**literals).select(COLUMNS)
