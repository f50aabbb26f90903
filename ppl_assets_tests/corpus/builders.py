"""Small studies, sources and pages for the tests of this room."""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import zstandard

from ppl_assets.corpus import Page
from ppl_assets.study.schema import Study

EVERYTHING_SCORED = {"scoring": {"share": 1.0, "pages_per_domain": 25}}
THREE_SPLITS = {
    "training": {"share": 0.5, "pages_per_domain": 4},
    "scoring": {"share": 0.3, "pages_per_domain": 3},
    "benchmark": {"share": 0.2, "pages_per_domain": 2},
}


def make_study(
    folder: Path, source: Mapping[str, Any], *, policy: Iterable[Mapping[str, str]] = (), **corpus: Any
) -> Study:
    """A study of one source; any page length is allowed unless `corpus` says otherwise."""
    seed = corpus.pop("seed", 0)
    content = {
        "name": "tiny",
        "seed": seed,
        "corpus": {"source": source, "min_page_bytes": 1, "splits": EVERYTHING_SCORED, **corpus},
        "targets": {"all": {"tasks": [{"task": "t", "metric": "acc", "kind": "accuracy"}]}},
        "mixture": {"keep": 0.5},
        "policy": list(policy),
    }
    return Study.model_validate_json(json.dumps(content)).model_copy(update={"folder": folder})


def jsonl(*paths: str, **columns: str) -> dict[str, Any]:
    """A JSONL source whose domain is the column ``site``."""
    domain = {} if "url" in columns else {"domain": "site"}
    return {"kind": "jsonl", "paths": list(paths), **domain, **columns}


def any_study(**options: Any) -> Study:
    """A study whose source is never read: the pages come from the test."""
    return make_study(Path("/nowhere"), jsonl("pages.jsonl"), **options)


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    """Rows as JSON lines, compressed as the suffix says."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    compress = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(compress(content))
    return path


def page(page_id: str, text: str, domain: str = "a.org", **fields: str | None) -> Page:
    """A page of one domain."""
    return Page(page_id=page_id, domain=domain, text=text, **fields)
