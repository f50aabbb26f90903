"""Where a project keeps its state and which study it runs: the only place that reads the environment.

Three variables have a command-line option of the same meaning: ``PPL_STATE_DIR`` (``--state``, default ``.ppl``),
``PPL_STUDY`` (``--study``, a file or the name of an embedded study, default ``demo``) and ``PPL_TIME_LIMIT``
(``--time-limit``, hours that one partition may take, default 24). Two say what executes the GPU code location:
``PPL_GPU_EXECUTOR`` and ``PPL_GPU_EXECUTOR_CONFIG``. ``PPL_LAKE`` puts the tables elsewhere than into the state folder:
another folder, or the URL of a bucket.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from ppl_assets.errors import InputError

STATE_VARIABLE = "PPL_STATE_DIR"
STUDY_VARIABLE = "PPL_STUDY"
LAKE_VARIABLE = "PPL_LAKE"
EXECUTOR_VARIABLE = "PPL_GPU_EXECUTOR"
EXECUTOR_CONFIG_VARIABLE = "PPL_GPU_EXECUTOR_CONFIG"
TIME_LIMIT_VARIABLE = "PPL_TIME_LIMIT"
# Not for users: tells the packaged dagster.yaml where its storage is.
DAGSTER_STORAGE_VARIABLE = "PPL_DAGSTER_STORAGE"
_DEFAULT_HOURS = 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """State folder (absolute), study (a path, or the name of an embedded study), and what deployments choose.

    `shared_lake` is a folder (absolute) or a URL; None: the lake is in the state folder. What takes longer than
    `partition_seconds` hangs, or might as well: it is stopped, and the others go on.
    """

    state: Path
    study: str
    shared_lake: Path | str | None = None
    gpu_executor: str = "multiprocess"
    gpu_executor_config: Path | None = None
    partition_seconds: float = _DEFAULT_HOURS * 3600

    @classmethod
    def from_environment(
        cls, *, state: Path | None = None, study: str | None = None, time_limit: float | None = None
    ) -> "Settings":
        """Read the environment; an argument that is given wins over it. `time_limit` is in hours.

        Raises:
            InputError: the time limit is no positive number.
        """
        chosen = state or Path(os.environ.get(STATE_VARIABLE) or ".ppl")
        hours = time_limit if time_limit is not None else os.environ.get(TIME_LIMIT_VARIABLE) or _DEFAULT_HOURS
        config = os.environ.get(EXECUTOR_CONFIG_VARIABLE)
        return cls(
            state=chosen.expanduser().absolute(),
            study=study or os.environ.get(STUDY_VARIABLE) or "demo",
            shared_lake=_folder_or_url(os.environ.get(LAKE_VARIABLE)),
            gpu_executor=os.environ.get(EXECUTOR_VARIABLE) or "multiprocess",
            gpu_executor_config=Path(config).expanduser().absolute() if config else None,
            partition_seconds=_positive(hours) * 3600,
        )

    def export(self) -> None:
        """Put the settings into this process's environment, for the processes it starts (Dagster's among them)."""
        os.environ[STATE_VARIABLE] = str(self.state)
        os.environ[STUDY_VARIABLE] = self.study
        os.environ[TIME_LIMIT_VARIABLE] = repr(self.partition_seconds / 3600)
        os.environ[DAGSTER_STORAGE_VARIABLE] = str(self.state / "dagster")
        os.environ[LAKE_VARIABLE] = str(self.shared_lake or "")

    @property
    def lake(self) -> Path | str:
        """Root of the Parquet tables."""
        return self.shared_lake or self.state / "lake"

    @property
    def models(self) -> Path:
        """Folder of the models that the study trains: one folder per slug, as ``save_pretrained`` writes it."""
        return self.state / "models"

    @property
    def tasks(self) -> Path:
        """Folder of the lm-eval tasks that the study builds: one YAML and one JSONL file per task."""
        return self.state / "tasks"

    @property
    def filters(self) -> Path:
        """Folder of the page filters: one folder per target, with its model and its card."""
        return self.state / "filters"

    @property
    def selection(self) -> Path:
        """Folder of what page selection writes per shard of the source: scores, and texts if asked for."""
        return self.state / "selection"

    @property
    def pilot(self) -> Path:
        """Folder of pilot runs: by arm, size, pages and seed a model, and while it trains its checkpoints."""
        return self.state / "pilot"

    @property
    def imports(self) -> Path:
        """Folder of files taken in by ``ppl-assets import``: one subfolder for BPB, one for scores."""
        return self.state / "imports"

    @property
    def tokens(self) -> Path:
        """Folder of token ids, one file per tokenizer and set of texts."""
        return self.state / "tokens"

    @property
    def shards(self) -> Path:
        """Folder of unfinished scores, one subfolder per model."""
        return self.state / "shards"

    @property
    def locks(self) -> Path:
        """Folder of lock files: who holds one works alone on what it is named after."""
        return self.state / "locks"

    @property
    def digests(self) -> Path:
        """Folder of remembered file digests."""
        return self.state / "digests"

    @property
    def study_marker(self) -> Path:
        """The file that names the study whose results the state folder holds."""
        return self.state / "study"

    @property
    def retired_file(self) -> Path:
        """The list of retired domains."""
        return self.state / "retired.json"

    @property
    def retiring(self) -> Path:
        """Folder of what is searched for while a retirement is not signed off."""
        return self.state / "retiring"

    @property
    def certificates(self) -> Path:
        """Folder of the certificates: one folder per target, one file per domain that its mixture trains on."""
        return self.state / "certificates"

    @property
    def warehouse_file(self) -> Path:
        """The published DuckDB file."""
        return self.state / "warehouse.duckdb"

    @property
    def report_file(self) -> Path:
        """The published HTML report."""
        return self.state / "report.html"


def _folder_or_url(text: str | None) -> Path | str | None:
    if not text:
        return None
    return text if "://" in text else Path(text).expanduser().absolute()


def _positive(hours: float | str) -> float:
    try:
        number = float(hours)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise InputError(f"{TIME_LIMIT_VARIABLE} (--time-limit): found {hours!r}, expected hours, a number above 0")
    return number
