"""One execution of an asset: what every thin asset does before and after its pure function.

Before: open the workspace and take the fingerprint, so that an input that changes meanwhile leaves the result stale,
not falsely current. After: write the tables, tell Dagster what was written.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from ppl_assets.meter import Meter
from ppl_assets.orchestration.instance import note_run_worker
from ppl_assets.orchestration.partitions import arm_partitions, model_partitions, run_partitions
from ppl_assets.orchestration.progress_reports import report_to
from ppl_assets.orchestration.provenance import RECIPES, fingerprint
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.progress import Report
from ppl_assets.schema import TABLES
from ppl_assets.settings import Settings

OWNER = "team:data"
_PREVIEW_ROWS = 10
_PREVIEW_CHARACTERS = 200


class WorkspaceResource(dg.ConfigurableResource):
    """The workspace that the environment names; opened anew by each step, so that an edited study counts at once."""

    def open(self) -> Workspace:
        """The workspace of ``PPL_STATE_DIR`` and ``PPL_STUDY``."""
        return Workspace(Settings.from_environment())


def asset_options(asset: str, *, group: str, kinds: set[str]) -> dict[str, Any]:
    """What every asset declares alike: code version, owner, partitions and the schema of its table."""
    recipe = RECIPES[asset]
    metadata: dict[str, Any] = {}
    if recipe.tables and recipe.tables != ("artifacts",):
        metadata = {
            "dagster/column_schema": table_schema(recipe.tables[0]),
            "dagster/table_name": recipe.tables[0],
            "grain": f"one row per {TABLES[recipe.tables[0]].grain}",
        }
    by_key = {"model": model_partitions, "run": run_partitions, "arm": arm_partitions, None: None}
    return {
        "group_name": group,
        "kinds": kinds,
        "owners": [OWNER],
        "code_version": recipe.code_version,
        "partitions_def": by_key[recipe.partitioned_by],
        "metadata": metadata,
    }


def table_schema(table: str) -> dg.TableSchema:
    """A table's declaration as Dagster shows it."""
    columns = [
        dg.TableColumn(
            column.name,
            str(column.dtype),
            description=column.meaning,
            constraints=dg.TableColumnConstraints(nullable=column.nullable),
        )
        for column in TABLES[table].columns
    ]
    return dg.TableSchema(columns)


class Step:
    """One execution of the asset that `context` belongs to."""

    def __init__(self, context: dg.AssetExecutionContext, resource: WorkspaceResource) -> None:
        self.context = context
        self.asset = context.asset_key.to_user_string()
        self.partition: str | None = context.partition_key if context.has_partition_key else None
        self.workspace = resource.open()
        self.workspace.settings.state.mkdir(parents=True, exist_ok=True)
        note_run_worker(context.instance, context.run)
        self.fingerprint = fingerprint(self.workspace, self.asset, self.partition)
        self._meter = Meter()

    @property
    def key(self) -> str:
        """The partition, where the asset has one."""
        assert self.partition is not None, f"{self.asset} has no partition"
        return self.partition

    def report(self) -> Report:
        """Where this step's progress goes."""
        return report_to(self.context, self.asset, self.partition)

    def publish(
        self,
        frames: Mapping[str, pl.DataFrame],
        *,
        metadata: Mapping[str, Any] | None = None,
        tokens: int | None = None,
        flops: float | None = None,
        device: str = "cpu",
        spent: dict[str, Any] | None = None,
    ) -> dg.MaterializeResult:
        """Write the asset's tables and describe them; the first one is the table that the asset is named for.

        Args:
            spent: time and device (`meter.total_time`) of all that `tokens` and `flops` count, where earlier steps did
                a part of it; default: those of this step.
        """
        run, own = {"run": self.context.run.run_id}, self._meter.read(device)
        cost = run | own | (spent or {}) | {"tokens": tokens, "flops": flops}
        versions: list[str] = []
        for table, part in RECIPES[self.asset].parts(self.partition):
            rows = frames[table]
            if part is not None and part != self.partition:
                rows = rows.filter(pl.col(str(TABLES[table].partition)) == part)
            footer = self.workspace.lake.write(
                table, rows, partition=part, fingerprint=self.fingerprint, cost=cost if not versions else None
            )
            versions.append(footer.data_version)
        first = frames[RECIPES[self.asset].tables[0]]
        described: dict[str, Any] = {
            "dagster/row_count": first.height,
            # Page text stays in the lake: what is in Dagster's event log, no retirement of a domain would find again.
            "preview": dg.MetadataValue.md(preview(first.select(pl.exclude("text")))),
            "fingerprint": self.fingerprint,
            "seconds": own["seconds"],
            **(metadata or {}),
        }
        return dg.MaterializeResult(metadata=described, data_version=dg.DataVersion("-".join(versions)))

    def publish_file(self, path: Path, *, metadata: Mapping[str, Any] | None = None) -> dg.MaterializeResult:
        """Record a file that the asset has put in place."""
        name = str(path.relative_to(self.workspace.settings.state))
        row = {"artifact": self.asset, "file": name, "bytes": path.stat().st_size}
        described: dict[str, Any] = {"path": dg.MetadataValue.path(path), **(metadata or {})}
        return self.publish({"artifacts": pl.DataFrame([row])}, metadata=described)


def preview(frame: pl.DataFrame) -> str:
    """The first rows as a Markdown table; long texts are cut."""
    shown = frame.head(_PREVIEW_ROWS).with_columns(pl.col(pl.String).str.slice(0, _PREVIEW_CHARACTERS))
    header = "| " + " | ".join(shown.columns) + " |"
    rule = "|" + " --- |" * len(shown.columns)
    rows = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in shown.rows()]
    return "\n".join([header, rule, *rows])


def _cell(value: Any) -> str:
    """One value, such that no text of a page can break the table or carry markup into the UI."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    escaped = str(value).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;").replace("`", "&#96;")
    return " ".join(escaped.split())
