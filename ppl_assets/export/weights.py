"""Weights alone, for people and for programs of one's own: YAML, JSON, CSV."""

import csv
import io
import json

import yaml

from ppl_assets.export.blend import Blend


def as_yaml(blend: Blend) -> str:
    """A mapping ``weights`` from domain to weight."""
    content = {
        "study": blend.study,
        "target": blend.target,
        "mixture": blend.version,
        "weights": {share.domain: share.weight for share in blend.shares},
    }
    return dump_yaml(content)


def as_json(blend: Blend) -> str:
    """A list ``domains`` of objects with domain, weight, tokens and path."""
    content = {
        "study": blend.study,
        "target": blend.target,
        "mixture": blend.version,
        "domains": [
            {"domain": share.domain, "weight": share.weight, "tokens": share.tokens, "path": share.path}
            for share in blend.shares
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_csv(blend: Blend) -> str:
    """A header and one line per domain: domain, weight, tokens, path."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["domain", "weight", "tokens", "path"])
    writer.writerows([share.domain, repr(share.weight), share.tokens, share.path] for share in blend.shares)
    return file.getvalue()


def dump_yaml(content: object) -> str:
    """YAML in the order given, one entry per line, with floats that read back the same."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=2**20)
