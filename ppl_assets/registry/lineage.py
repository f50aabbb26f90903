"""What imported rows state of their models: one slug is one family at one revision, whoever states it."""

import re
from collections.abc import Collection
from itertools import combinations

import polars as pl

from ppl_assets.errors import InputError

LINEAGE = ("slug", "family", "source", "revision")
_DIGEST = re.compile(r"[0-9a-f]{7,}")
# Characters of what a folder, a commit and weights are named by (local_revision, git, weights_digest).
_WHOLE_DIGESTS = {32, 40, 64}


def check_lineage(stated: pl.DataFrame, *, decided: Collection[str] = ()) -> None:
    """Refuse rows of one slug that state two revisions or two families.

    Args:
        stated: slug, family, source and revision as rows state them, and `stated_by`, what holds the rows.
        decided: slugs whose family the study states, so that no row has a say in it.

    Raises:
        InputError: with the slug, both statements and who makes them.
    """
    distinct = stated.unique(LINEAGE, keep="first", maintain_order=True)
    for (slug,), rows in distinct.group_by("slug", maintain_order=True):
        for one, other in combinations(rows.iter_rows(named=True), 2):
            if are_different(one["revision"], other["revision"]):
                raise _two_of("revision", one, other)
            families = stated_family(one), stated_family(other)
            if slug not in decided and None not in families and families[0] != families[1]:
                raise _two_of("family", one, other)


def are_different(one: str | None, other: str | None) -> bool:
    """Whether two revisions cannot be of one model.

    A name may be that of any digest, and digests of a folder, a commit and weights say nothing of each other. A digest
    cut short is compared with the beginning of the other.
    """
    if one is None or other is None:
        return False
    digests = [each for each in (one, other) if _DIGEST.fullmatch(each)]
    if len(digests) == 1:
        return False
    if len(digests) == 2 and len(one) != len(other) and _WHOLE_DIGESTS.issuperset((len(one), len(other))):
        return False
    short, long = sorted((one, other), key=len)
    return not long.startswith(short) if digests else one != other


def stated_family(row: dict[str, str | None]) -> str | None:
    """The family that a row states; None where it is what a file without families gets: the slug, or the maker."""
    maker = (row["source"] or "").split("/")[0].lower()
    return None if row["family"] in (row["slug"], maker) else row["family"]


def _two_of(what: str, one: dict[str, str], other: dict[str, str]) -> InputError:
    return InputError(
        f"model {one['slug']!r}: {one['stated_by']} states the {what} {one[what]!r} and {other['stated_by']} "
        f"{other[what]!r}, expected one model under one slug"
    )
