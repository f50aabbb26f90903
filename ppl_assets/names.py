"""Names that become partition keys and paths: one rule for all of them, so that none can leave its folder."""

import re

SLUG_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
LONGEST_SLUG = 100


def is_slug(name: str) -> bool:
    """Whether a name is a valid slug."""
    # Not `match`: its `$` lets a line break stand at the end.
    return len(name) <= LONGEST_SLUG and re.fullmatch(SLUG_PATTERN, name) is not None
