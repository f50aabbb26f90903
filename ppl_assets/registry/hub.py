"""The Hugging Face hub: which commit a branch or tag stands for, so that a registered model never moves."""

import re
from pathlib import Path

from ppl_assets.errors import InputError

_COMMIT = re.compile(r"[0-9a-f]{40}")


def pinned_commit(slug: str, repository: str, revision: str) -> str:
    """The commit that `revision` of a repository names now; a commit is returned as it is, without asking.

    Raises:
        InputError: the hub cannot be reached, or has no such repository or revision.
    """
    if _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        # The client's cache keeps files by commit, and answers from there when the hub cannot be reached.
        configuration = Path(hf_hub_download(repository, "config.json", revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise InputError(
            f"model {slug!r}: the hub does not say which commit {revision!r} of {repository!r} is ({error}); "
            "expected a reachable hub, or a commit as revision"
        ) from error
    return configuration.parent.name
