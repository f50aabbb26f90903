"""What is exported: one target's domains that have weight, with the paths of their data."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from ppl_assets.errors import InputError, suggestion

PLACE = "{domain}"
_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_DIGEST_DIGITS = 12
_MARKED_NAME = re.compile(rf".*-[0-9a-f]{{{_DIGEST_DIGITS}}}")
_LONGEST_STEM = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One domain's part of a mixture.

    `weight` is its share of the tokens, `tokens` that share of the budget in reference tokens, `epochs` how often the
    study lets the domain be repeated, `path` where its data lies, `name` the part of the path that stands for it.
    """

    domain: str
    name: str
    path: str
    weight: float
    tokens: int
    epochs: float
    decision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """The domains of one target that have weight, heaviest first and among equals by name.

    `version` is the data version of the table ``pretraining_mixture`` that the weights were read from.
    """

    study: str
    target: str
    version: str
    seed: int
    shares: tuple[Share, ...]

    @property
    def origin(self) -> str:
        """Where the weights come from, in one line for a file's head."""
        return f"study {self.study}, target {self.target}, mixture {self.version}"


def blend_of(
    mixture: pl.DataFrame,
    *,
    study: str,
    target: str,
    version: str,
    seed: int,
    template: str,
    epochs: Mapping[str, float],
) -> Blend:
    """The blend of one target.

    Args:
        mixture: table ``pretraining_mixture``.
        template: path of a domain's data; ``{domain}`` stands for the domain's `file_name`.
        epochs: how often each domain may be repeated.

    Raises:
        InputError: the mixture has no such target, or the template no place for the domain.
    """
    targets = mixture["target"].unique().sort().to_list()
    if target not in targets:
        raise InputError(f"--target: found {target!r}, expected one of {targets}{suggestion(target, targets)}")
    if PLACE not in template:
        raise InputError(f"--path-template: found {template!r}, expected a path with {PLACE}, such as data/{PLACE}")
    rows = mixture.filter((pl.col("target") == target) & (pl.col("weight") > 0))
    rows = rows.sort("weight", "domain", descending=[True, False])
    shares = tuple(
        Share(
            domain=row["domain"],
            name=file_name(row["domain"]),
            path=template.replace(PLACE, file_name(row["domain"])),
            weight=row["weight"],
            tokens=row["tokens"],
            epochs=epochs[row["domain"]],
            decision=row["decision"],
        )
        for row in rows.iter_rows(named=True)
    )
    return Blend(study=study, target=target, version=version, seed=seed, shares=shares)


def file_name(domain: str) -> str:
    """A name for a domain's files: lower-case letters, digits, dot, dash and underscore alone, one per domain.

    A domain of such a form is its own name. Any other (with a slash, capitals, spaces, ...) is spelled with underscores
    and a digest of the domain, so that no two have one name, not even on a file system that ignores case; a domain that
    already looks like that gets a digest as well.
    """
    if _PLAIN_NAME.fullmatch(domain) and not domain.endswith(".") and not _MARKED_NAME.fullmatch(domain):
        return domain
    stem = re.sub(r"[^a-z0-9._-]", "_", domain.casefold()).lstrip("._-")[:_LONGEST_STEM] or "domain"
    return f"{stem}-{hashlib.sha256(domain.encode()).hexdigest()[:_DIGEST_DIGITS]}"
