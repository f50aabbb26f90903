"""Where a registered model is loaded from, and on which device."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppl_assets.errors import InputError
from ppl_assets.registry.register import IMPORTED, ZOO
from ppl_assets.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A folder or a repository at a pinned revision; `trust_remote_code` only where the study says so."""

    location: str
    revision: str | None
    device: str
    trust_remote_code: bool


def model_source(study: Study, zoo_folder: Path, model: dict[str, Any], *, device: str) -> ModelSource:
    """How to load a registered model, a row of ``models``, to a device.

    Raises:
        InputError: the model was only imported, so that there is nothing to load.
    """
    stated = {each.slug: each for each in study.models}.get(model["slug"])
    if model["source"] == ZOO:
        location, revision = str(zoo_folder / model["slug"]), None
    elif stated is None or only_imported(study, model["slug"]):
        raise InputError(
            f"model {model['slug']!r} was imported: the study names no weights to load; "
            "list it under models with its source, or import what is missing"
        )
    else:
        folder = study.path(stated.source)
        # Of a repository the commit that the registry found, so that a moved branch cannot mix two models.
        location, revision = (str(folder), None) if folder.is_dir() else (stated.source, model["revision"])
    return ModelSource(
        location=location,
        revision=revision,
        device=device,
        trust_remote_code=bool(stated and stated.trust_remote_code),
    )


def only_imported(study: Study, slug: str) -> bool:
    """Whether a model is known by imported numbers alone, so that nothing can be computed for it here."""
    with_weights = {model.slug for model in study.models if model.source != IMPORTED}
    return slug not in with_weights | set(study.zoo_slugs())
