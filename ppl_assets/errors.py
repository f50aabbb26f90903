"""The one error type for bad input: what a user can repair without reading a traceback.

The command line turns it into exit code 2 and a sentence; an asset turns it into a failed step with the same sentence.
Everything else that goes wrong stays an ordinary exception, because it is ours to repair.
"""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input, told as a sentence: where (file, field or row), what was found, what was expected.

    A ``ValueError``, so that callers of the numerical rooms from a notebook need to know no type of ours.
    """


def suggestion(name: str, choices: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the choice nearest to `name`, or an empty string where none is near."""
    nearest = difflib.get_close_matches(name, list(choices), n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
