"""The registry: which models there are, what makes two of them one, and what was computed for them elsewhere."""

from ppl_assets.registry.identity import identity, local_revision
from ppl_assets.registry.imports import import_digest, imported_bpb, imported_scores, take_in, without_domains
from ppl_assets.registry.register import IMPORTED, ZOO, register
from ppl_assets.registry.sources import ModelSource, model_source, only_imported

__all__ = [
    "IMPORTED",
    "ModelSource",
    "ZOO",
    "identity",
    "import_digest",
    "imported_bpb",
    "imported_scores",
    "local_revision",
    "model_source",
    "only_imported",
    "register",
    "take_in",
    "without_domains",
]
