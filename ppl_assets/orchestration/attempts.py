"""Attempts: which run tried to compute what, so that nothing is tried twice by itself and a failure can be shown.

An attempt is an asset, its partition and the fingerprint that it was to be computed from. Runs carry it as a tag,
whoever started them: the command line, or the sensors that keep the state current.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg

from ppl_assets.orchestration.provenance import fingerprint
from ppl_assets.orchestration.workspace import Workspace

ATTEMPT_TAG = "ppl_assets/attempt"
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The latest run that tried."""

    run_id: str
    status: dg.DagsterRunStatus

    @property
    def failed(self) -> bool:
        """Whether it ended without a result."""
        return self.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def attempt_key(workspace: Workspace, asset: str, partition: str | None) -> str:
    """What an asset's partition would be computed from now, as a run's tag says it."""
    return f"{asset}[{partition or ''}]:{fingerprint(workspace, asset, partition)}"


def latest_attempts(instance: dg.DagsterInstance, keys: Iterable[str]) -> dict[str, Attempt]:
    """The latest run of each key that was tried."""
    wanted = list(keys)
    runs = instance.get_runs(dg.RunsFilter(tags={ATTEMPT_TAG: wanted})) if wanted else []
    latest: dict[str, Attempt] = {}
    for run in runs:  # newest first
        latest.setdefault(run.tags[ATTEMPT_TAG], Attempt(run.run_id, run.status))
    return latest


def in_progress(instance: dg.DagsterInstance) -> set[tuple[str, str | None]]:
    """Assets and partitions that an unfinished run is about, whoever started it."""
    return {
        (key.to_user_string(), run.tags.get("dagster/partition"))
        for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED))
        for key in run.asset_selection or ()
    }
