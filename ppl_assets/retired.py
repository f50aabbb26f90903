"""The list of retired domains: which ones are gone for good, why, on whose word, and the proof that they are.

It is one file of the state folder, and the only place where a retired domain may still be named. Sampling and imports
leave these domains out without a trace, whatever the source or an imported file says.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ppl_assets.errors import InputError
from ppl_assets.warehouse.files import replace_file


@dataclass(frozen=True, slots=True)
class Retired:
    """Whether a domain is retired: ``domain in retired``. Patterns are shell patterns that heed case, or names."""

    patterns: tuple[str, ...] = ()

    def __contains__(self, domain: str) -> bool:
        return any(domain == pattern or fnmatchcase(domain, pattern) for pattern in self.patterns)

    def among(self, domains: Iterable[str]) -> list[str]:
        """Those of `domains` that are retired, sorted."""
        return sorted(domain for domain in set(domains) if domain in self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """One entry of the list.

    `domains` are the names that the pattern matched, `models` those of the study's own that had been trained on their
    text. `signed_off` is the proof of absence; None until every table and artefact has been made anew and searched.
    """

    pattern: str
    reason: str
    owner: str
    date: str
    domains: tuple[str, ...]
    models: tuple[str, ...] = ()
    signed_off: dict[str, Any] | None = None


def read_retirements(path: Path) -> list[Retirement]:
    """The entries of a list, in the order in which they were made; none where there is no list.

    Raises:
        InputError: the file is no such list. Guessing would bring retired text back.
    """
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["retired"]
        return [
            Retirement(**{**entry, "domains": tuple(entry["domains"]), "models": tuple(entry["models"])})
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a list of retired domains ({error}); restore it, nothing runs without"
        ) from error


def write_retirements(path: Path, retirements: Iterable[Retirement]) -> None:
    """Replace a list, whole or not at all."""
    entries = [asdict(retirement) for retirement in retirements]
    replace_file(path, json.dumps({"retired": entries}, indent=2, ensure_ascii=False) + "\n")


def retired_in(path: Path) -> Retired:
    """The domains that a list names."""
    return Retired(tuple(retirement.pattern for retirement in read_retirements(path)))
