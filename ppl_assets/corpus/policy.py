"""Allow and deny rules over domains, licences, languages and makers: the last rule that matches decides."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ppl_assets.study.schema import PolicyRule


def decide_policy(
    rules: Sequence[PolicyRule], domain: str, license: str | None, language: str | None, maker: str | None
) -> tuple[str, str | None]:
    """``allow`` or ``deny``, and the deciding rule's reason with its owner and date; no rule: allowed, without reason.

    A rule matches where every list that it states has a match: domains, licences and makers by shell patterns that
    heed case, languages as they are. What the source does not state matches no pattern, not even ``*``: a rule that
    allows named licences does not allow text without one.
    """
    decision: tuple[str, str | None] = ("allow", None)
    for rule in rules:
        matches = (
            _any(rule.domains, domain)
            and (not rule.licenses or _any(rule.licenses, license))
            and (not rule.languages or language in rule.languages)
            and (not rule.makers or _any(rule.makers, maker))
        )
        if matches:
            decision = (rule.action, f"{rule.reason} ({rule.owner}, {rule.date})")
    return decision


def _any(patterns: Sequence[str], value: str | None) -> bool:
    return value is not None and any(fnmatchcase(value, pattern) for pattern in patterns)
