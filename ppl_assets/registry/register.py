"""The registry: every model of a study with its lineage, one row each.

Models come from three places: the study's own list (folders and repositories), the pool that the study trains, and
imported matrices. Two entries are one model where their weights are equal, or where they name the same repository at
the same revision; the first by slug takes part, the others are kept with status ``duplicate``. A model whose licence
the study's ``model_policy`` does not list takes no part either; it is kept with status ``denied``.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.model_files import check_files, count_parameters, weights_digest
from ppl_assets.registry.hub import pinned_commit
from ppl_assets.registry.identity import local_revision
from ppl_assets.registry.lineage import are_different, check_lineage, stated_family
from ppl_assets.schema import TABLES
from ppl_assets.study import Study
from ppl_assets.study.schema import Model, ModelPolicy

IMPORTED = "imported"
ZOO = "zoo"


def register(study: Study, *, checkpoints: pl.DataFrame, imported: pl.DataFrame, cache: Path) -> pl.DataFrame:
    """All models of a study, as rows of the table ``models``.

    Args:
        checkpoints: rows of ``zoo_checkpoints``.
        imported: slug, family, source and revision of the models in imported matrices, and `stated_by`, what holds
            the rows; any number of rows for each.
        cache: folder of remembered file digests.

    Raises:
        InputError: a local folder without weights, configuration or tokenizer (a checkpoint becomes ``unusable``
            instead); a model said to be imported that no imported matrix holds; imported rows of one slug that state
            two revisions or families, or another revision than the registered one.
    """
    known = imported.unique(maintain_order=True)
    stated = [_listed(model, study, known, cache) for model in study.models]
    trained = [_trained(row) for row in checkpoints.iter_rows(named=True)]
    _check_revisions(stated + trained, known)
    named = {row["slug"] for row in stated + trained}
    check_lineage(known, decided=named)
    unnamed = known.filter(~pl.col("slug").is_in(named))
    rest = [_imported(rows.to_dicts()) for _, rows in unnamed.group_by("slug", maintain_order=True)]
    rows = stated + trained + rest
    denials = [_denial(row, study.model_policy) for row in rows]
    denied = [row | denial for row, denial in zip(rows, denials, strict=True) if denial]
    allowed = [row for row, denial in zip(rows, denials, strict=True) if not denial]
    return pl.DataFrame(_mark_duplicates(allowed) + denied, schema=TABLES["models"].polars_schema)


def _listed(model: Model, study: Study, imported: pl.DataFrame, cache: Path) -> dict[str, Any]:
    """The row of a model; a checkpoint that is not whole, for training may be writing it just now, is unusable."""
    try:
        return _stated(model, study, imported, cache)
    except InputError as error:
        if not study.is_checkpoint(model):
            raise
        lineage = model.model_dump(include={"slug", "family", "run", "kind", "source", "license", "maker"})
        return lineage | {"status": "unusable", "status_reason": str(error)}


def _stated(model: Model, study: Study, imported: pl.DataFrame, cache: Path) -> dict[str, Any]:
    row = {
        "slug": model.slug,
        "family": model.family,
        "run": model.run or model.slug,
        "kind": model.kind,
        "source": model.source,
        "revision": model.revision,
        "params": model.params,
        "license": model.license,
        "maker": model.maker,
    }
    if model.source == IMPORTED:
        if model.slug not in imported["slug"]:
            raise InputError(f"model {model.slug!r}: source is 'imported', but no imported matrix holds it")
        return row
    folder = study.path(model.source)
    if not folder.is_dir():
        if _looks_like_folder(model.source):
            raise InputError(f"model {model.slug!r}: {folder}: no such folder")
        if model.revision is None:
            raise InputError(f"model {model.slug!r}: revision is missing; expected a pinned commit, branch or tag")
        return row | {"revision": pinned_commit(model.slug, model.source, model.revision)}
    try:
        check_files(folder)
    except InputError as error:
        raise InputError(f"model {model.slug!r}: {error}") from error
    return row | {
        "source": str(folder),
        "revision": local_revision(folder, cache),
        "weights_digest": weights_digest(folder),
        "params": model.params or count_parameters(folder),
    }


def _looks_like_folder(source: str) -> bool:
    """Whether a source that is not a folder was meant as one: a repository id is 'name' or 'maker/name'."""
    return source.startswith((".", "/", "~")) or source.count("/") != 1


def _trained(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "slug": row["slug"],
        "family": row["family"],
        "run": row["run"],
        "kind": "probe",
        "source": ZOO,
        "revision": row["weights_digest"],
        "params": row["params"],
        "weights_digest": row["weights_digest"],
    }


def _imported(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of a model that the study does not name, of what any of its imported rows states."""
    families = [stated_family(row) for row in rows]
    return {
        "slug": rows[0]["slug"],
        "family": _first(families) or rows[0]["family"],
        "run": rows[0]["slug"],
        "kind": "public",
        "source": _first(row["source"] for row in rows) or IMPORTED,
        "revision": _first(row["revision"] for row in rows),
    }


def _first(values: Iterable[str | None]) -> str | None:
    """The first that is stated."""
    return next((value for value in values if value is not None), None)


def _check_revisions(rows: list[dict[str, Any]], imported: pl.DataFrame) -> None:
    """Refuse losses or scores of other weights than a model's."""
    by_slug = {row["slug"]: row.get("revision") for row in rows}
    for slug, found, where in imported.select("slug", "revision", "stated_by").iter_rows():
        own = by_slug.get(slug)
        if are_different(own, found):
            raise InputError(f"model {slug!r}: {where} states revision {found}, expected {own} as registered")


def _denial(row: dict[str, Any], policy: ModelPolicy | None) -> dict[str, str] | None:
    """Status and reason of a model that may not score; None where it may. What the study trains is its own."""
    if policy is None or row["source"] == ZOO:
        return None
    license = row.get("license")
    if license is not None and any(fnmatchcase(license, pattern) for pattern in policy.licenses):
        return None
    found = "no licence is stated" if license is None else f"licence {license!r} is not allowed"
    return {"status": "denied", "status_reason": f"{found}: {policy.reason} ({policy.owner}, {policy.date})"}


def _mark_duplicates(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Status of each model: the first by slug of those with one identity is ready, the others are duplicates."""
    first: dict[Any, str] = {}
    marked = []
    for row in sorted(rows, key=lambda each: each["slug"]):
        if "status" in row:
            marked.append(row)
            continue
        identity = row.get("weights_digest") or (row["source"], row.get("revision"))
        unnamed = row["source"] == IMPORTED
        original = row["slug"] if unnamed else first.setdefault(identity, row["slug"])
        if original == row["slug"]:
            marked.append(row | {"status": "ready"})
        else:
            marked.append(row | {"status": "duplicate", "status_reason": f"the same model as {original!r}"})
    return marked
