"""One study on one state folder: the study, the lake, and which models, runs and partitions there are."""

from collections.abc import Iterable
from functools import cached_property

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.registry import identity, only_imported
from ppl_assets.retired import Retired, retired_in
from ppl_assets.schema import TABLES
from ppl_assets.settings import Settings
from ppl_assets.study import Study, load_study
from ppl_assets.warehouse import Lake, remembered

SPLITS = ("training", "scoring", "benchmark")
_BY_MODEL = [name for name, table in TABLES.items() if table.partition == "slug"]


class Workspace:
    """Where assets read and write, and for which study."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lake = Lake(settings.lake)
        self._read: dict[str, tuple[object, pl.DataFrame]] = {}

    @cached_property
    def study(self) -> Study:
        """The study, read once.

        Raises:
            InputError: it is no study, or the state folder is another one's.
        """
        study, marker = load_study(self.settings.study), self.settings.study_marker
        if marker.is_file() and marker.read_text().strip() != study.name:
            raise InputError(
                f"{self.settings.state}: holds the results of study {marker.read_text().strip()!r}, "
                f"expected {study.name!r}; choose another folder with --state, or delete this one"
            )
        return study

    @cached_property
    def retired(self) -> Retired:
        """The domains that are gone for good, read once."""
        return retired_in(self.settings.retired_file)

    def runs(self) -> list[str]:
        """Training runs of the study's own pool."""
        return [run.run for run in self.study.zoo.runs] if self.study.zoo else []

    def piloted(self, table: str) -> list[str]:
        """Arms of the study's pilot that have a part of a table partitioned by arm, in the study's order."""
        stored = set(self.lake.partitions(table))
        return [arm for arm in self.study.pilot_arms if arm in stored]

    def models(self) -> pl.DataFrame:
        """The registered models that take part, sorted by slug; no row before the registry is materialized."""
        return self.table("models").filter(pl.col("status") == "ready")

    def model(self, slug: str) -> dict[str, object]:
        """The registered model of a slug.

        Raises:
            InputError: the registry has no such model that takes part.
        """
        rows = self.models().filter(pl.col("slug") == slug)
        if rows.is_empty():
            raise InputError(
                f"model {slug!r} is not in the registry; materialize model_registry, or add it to the study"
            )
        return rows.row(0, named=True)

    def slugs(self) -> list[str]:
        """Slugs of the registered models that take part, sorted."""
        return self.models()["slug"].to_list()

    def table(self, name: str) -> pl.DataFrame:
        """A table without partitions; no row where it is not there yet, or damaged. Read again only when replaced."""
        stamp = self.lake.stamp(name)
        if not self.intact(name, None):
            return TABLES[name].polars_schema.to_frame()
        if name not in self._read or self._read[name][0] != stamp:
            self._read[name] = (stamp, self.lake.read(name))
        return self._read[name][1]

    def intact(self, table: str, partition: str | None) -> bool:
        """Whether a part's bytes are those that were written; read once for as long as its file is unchanged."""
        stamp, cache = self.lake.stamp(table, partition), self.settings.digests
        if stamp is None:
            return False
        part = f"intact:{self.lake.path(table, partition)}"
        return bool(remembered(part, stamp, cache, lambda: self.lake.verify(table, partition)))

    def scores_text(self, slug: str) -> bool:
        """Whether the study has text and the model's weights; what it scored while it had both counts no more."""
        return self.study.corpus is not None and not only_imported(self.study, slug)

    def present(self, table: str) -> list[str]:
        """Registered models that have a part of a table partitioned by model, undamaged and of the study as it is."""
        stored = set(self.lake.partitions(table))
        if table == "chunk_logliks":
            stored = {slug for slug in stored if self.scores_text(slug)}
        return [slug for slug in self.slugs() if slug in stored and self.intact(table, slug)]

    def missing(self, table: str) -> list[str]:
        """Registered models that have no part of a table partitioned by model."""
        present = set(self.present(table))
        return [slug for slug in self.slugs() if slug not in present]

    def retire_replaced_models(self, models: pl.DataFrame) -> list[str]:
        """Delete the parts of registered models that `models` holds with other weights than before.

        What they hold is no longer of the model of that name, should the new weights fail where the old ones did not.
        """
        registered = {row["slug"]: identity(row) for row in models.iter_rows(named=True)}
        before = {row["slug"]: identity(row) for row in self.models().iter_rows(named=True)}
        replaced = sorted(slug for slug in before if slug in registered and registered[slug] != before[slug])
        self._remove_models(replaced)
        return replaced

    def retire_absent_models(self) -> list[str]:
        """Delete the parts of models that are not registered, so that none comes back with old results."""
        registered = set(self.slugs())
        retired = sorted({slug for table in _BY_MODEL for slug in self.lake.partitions(table)} - registered)
        self._remove_models(retired)
        return retired

    def _remove_models(self, slugs: Iterable[str]) -> None:
        for slug in slugs:
            for table in _BY_MODEL:
                self.lake.remove(table, slug)

    def by_model(self, table: str) -> pl.DataFrame:
        """All rows of a table partitioned by model, of the registered models that have a part."""
        return self.lake.read_partitions(table, self.present(table))
