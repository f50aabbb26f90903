"""The page filter as a step of a datatrove pipeline: what scores a corpus on a cluster (extra ``datatrove``).

The step is made from a filter's folder alone, so any machine that has the folder and this package decides as the local
path does: the same normalisation, the same scores, and the threshold of the card or of the table ``selections``. The
steps before and after it are datatrove's own readers and writers, and so are its executors:

    from ppl_assets.filtering.datatrove_filter import PageFilter, executor

    pipeline = [JsonlReader("s3://pool"), PageFilter("filters/code"), ParquetWriter("s3://kept")]
    executor("slurm", pipeline, tasks=500, time="10:00:00", partition="cpu", logging_dir="logs").run()
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

from ppl_assets.errors import InputError
from ppl_assets.filtering.artifact import LoadedFilter, load, read_card

_EXECUTORS: dict[str, Any] = {
    "local": LocalPipelineExecutor,
    "slurm": SlurmPipelineExecutor,
    "ray": RayPipelineExecutor,
}


class PageFilter(BaseFilter):
    """Keeps the documents whose score reaches the threshold; each gets its score as metadata ``score``.

    Args:
        folder: of the filter, with ``model.bin`` and ``card.json``; read by each task.
        threshold: least score that is kept; default: the card's, for the budget that the filter was made for.
        exclusion_writer: where the other documents go; default: nowhere.

    Raises:
        InputError: the folder is no filter, or neither it nor the caller has a threshold.
    """

    name = "page filter"

    def __init__(
        self,
        folder: str | Path,
        *,
        threshold: float | None = None,
        batch_size: int = 1024,
        exclusion_writer: DiskWriter | None = None,
    ) -> None:
        super().__init__(exclusion_writer, batch_size)
        card = read_card(Path(folder))
        if threshold is None and card.threshold is None:
            raise InputError(f"page filter of {card.target!r}: its card has no threshold; expected one from the caller")
        self.folder = str(folder)
        self.threshold = card.threshold if threshold is None else threshold
        self._loaded: LoadedFilter | None = None

    def filter(self, doc: Document) -> bool:
        """Whether a document is kept."""
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: list[Document]) -> list[bool]:
        """Whether each document is kept."""
        # Loaded where it runs: a pipeline travels to its tasks by pickle.
        self._loaded = self._loaded or load(self.folder)
        scores = self._loaded.score([doc.text for doc in batch])
        for doc, score in zip(batch, scores.tolist(), strict=True):
            doc.metadata["score"] = score
        return (scores >= self.threshold).tolist()


def executor(kind: Literal["local", "slurm", "ray"], pipeline: Sequence[PipelineStep], **options: Any) -> Any:
    """datatrove's executor of a kind for a pipeline; `options` are its own, such as tasks, workers and logging_dir.

    Raises:
        InputError: there is no such executor.
    """
    if kind not in _EXECUTORS:
        raise InputError(f"executor: found {kind!r}, expected one of {', '.join(_EXECUTORS)}")
    return _EXECUTORS[kind](pipeline=list(pipeline), **options)
