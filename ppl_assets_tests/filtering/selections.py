"""A source with every trap that a selection can fall into, and its tables, made without a single model.

Twelve sites in four files. Odd sites are good for the target ``good``; sites 0 and 1 of every four are in English, the
others in French. Estimates and losses know which sites are good, and the target's own texts are like good pages.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ppl_assets.corpus import catalog, collect, read_pages, source_parts
from ppl_assets.filtering.page_scores import Scoring, score_source
from ppl_assets.filtering.selection import Tables, select_pages
from ppl_assets.filtering.tables import Evidence, filter_settings, filter_tables
from ppl_assets.filtering.text_scores import Samples, prepared_methods
from ppl_assets.retired import Retired
from ppl_assets.schema import TABLES
from ppl_assets.study import Study, load_study
from ppl_assets.study.schema import Arm
from ppl_assets.warehouse import Lake
from ppl_assets_tests.filtering.worlds import BAD, GOOD, drawn_text

SITES, PAGES_OF_A_SITE, FILES = 12, 40, 4
ARMS: tuple[Arm, ...] = (
    "ours",
    "ours_domains",
    "uniform",
    "mean_loss",
    "perplexity_pruning",
    "dsir",
    "quality_classifier",
    "language",
    "rules",
)
STUDY = """\
name: sites
corpus:
  source: {kind: jsonl, paths: ["part-*.jsonl"], id: id, domain: site, language: language, license: license}
  min_page_bytes: 100
  splits:
    training: {share: 0.7, pages_per_domain: 12}
    scoring: {share: 0.15, pages_per_domain: 8}
    benchmark: {share: 0.15, pages_per_domain: 8}
targets:
  good: {tasks: [{task: t, metric: m, kind: bpb}]}
mixture: {keep: 0.25}
filter:
  dimension: 8
  buckets: 5000
  min_count: 1
  folds: 3
  min_steps: 2000
  arms: [ARMS]
  target_texts: {good: [liked.jsonl]}
  languages: {good: [en]}
policy:
  - {action: deny, licenses: [closed], reason: legal, owner: legal, date: 2026-01-31}
"""


def write_source(folder: Path, *, pages: int = PAGES_OF_A_SITE) -> list[dict[str, str]]:
    """Write the files of the source; returns their rows.

    Site 3 repeats pages of sites 0 and 1 word for word, a page in ten is under a closed licence, and one in ten is too
    short to be used.
    """
    rng = np.random.default_rng(7)
    rows: list[dict[str, str]] = []
    for site in range(SITES):
        for number in range(pages):
            text = drawn_text(rng, GOOD if site % 2 else BAD, words=int(rng.integers(90, 200)))
            if site == 3 and number < 10:
                text = rows[number + (pages if number % 2 else 0)]["text"]
            row = {"id": f"site{site}-{number}", "site": f"site{site}.org", "language": "en" if site % 4 < 2 else "fr"}
            license = "closed" if number % 10 == 4 else "open"
            rows.append({**row, "license": license, "text": "short" if number % 10 == 7 else text})
    for part in range(FILES):
        lines = [json.dumps(row) + "\n" for row in rows[part::FILES]]
        (folder / f"part-{part}.jsonl").write_text("".join(lines))
    liked = [json.dumps({"text": drawn_text(rng, GOOD, words=150)}) + "\n" for _ in range(60)]
    (folder / "liked.jsonl").write_text("".join(liked))
    return rows


def edit_pages(folder: Path, names: set[str]) -> None:
    """Give pages of the source in `folder` other texts of the same length."""
    for part in folder.glob("part-*.jsonl"):
        rows = [json.loads(line) for line in part.read_text().splitlines()]
        edited = [row | {"text": row["text"][::-1]} if row["id"] in names else row for row in rows]
        part.write_text("".join(json.dumps(row) + "\n" for row in edited))


def write_study(folder: Path, *, arms: tuple[Arm, ...] = ARMS, **changes: str) -> Study:
    """The study of the source in `folder`; `changes` replace text of its file."""
    text = STUDY.replace("ARMS", ", ".join(arms))
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "study.yaml").write_text(text)
    return load_study(str(folder / "study.yaml"))


@dataclass(frozen=True, kw_only=True)
class World:
    """A study with the tables that come before a selection, in a lake."""

    study: Study
    folder: Path
    lake: Lake
    tables: Tables
    filters: pl.DataFrame

    def scoring(self, *, retired: Retired = Retired(), fingerprint: str = "first") -> Scoring:  # noqa: B008
        """How pages are scored; the methods that need a model are made."""
        samples = Samples(
            filters=self.filters,
            domains=self.tables.domains,
            pool=self.lake.read("pages", "training"),
            benchmark=self.lake.read("pages", "benchmark"),
        )
        return Scoring(
            study=self.study,
            lake=self.lake.root,
            methods=prepared_methods(self.study, samples, self.folder / "filters", self.folder / "methods"),
            retired=retired,
            fingerprint=fingerprint,
        )

    def score(self, how: Scoring, *, processes: int = 1) -> list[str]:
        """Score the source; returns the shards."""
        return score_source(how, source_parts(self.study, self.folder / "digests"), processes=processes)

    def select(self, shards: list[str], how: Scoring) -> dict[str, pl.DataFrame]:
        """Select; returns rows of ``selections`` and ``selection_shifts``."""
        return select_pages(
            self.study,
            self.lake,
            shards,
            [method.name for method in how.methods],
            self.tables,
            scratch=self.folder / "scratch",
            fingerprint="first",
        )

    def selected(self) -> pl.DataFrame:
        """All rows of ``selected_pages``."""
        return self.lake.read_partitions("selected_pages", self.lake.partitions("selected_pages"))


def make_world(folder: Path, study: Study) -> World:
    """The tables of a study, with estimates, losses and a mixture that know the good sites."""
    lake = Lake(folder / "lake")
    found = catalog(read_pages(study), study)
    sampled = collect(read_pages(study), found, study)
    for split in ("training", "scoring", "benchmark"):
        lake.write("pages", sampled.pages.filter(pl.col("split") == split), partition=split, fingerprint="")
    names = found.domains["domain"].to_list()
    good = {name: int(name.removeprefix("site").removesuffix(".org")) % 2 for name in names}
    chosen = sum(good.values())
    mixture = pl.DataFrame(
        {
            "target": "good",
            "domain": name,
            "weight": good[name] / chosen,
            "cap": 1.0,
            "estimate": 0.5 * good[name],
            "decision": "selected" if good[name] else "not selected",
        }
        for name in names
    )
    estimates = pl.DataFrame(
        {"target": "good", "domain": name, "estimate": 0.5 * good[name], "stderr": 0.05, "selection_probability": 1.0}
        for name in names
    )
    losses = pl.DataFrame(
        {"slug": slug, "domain": name, "bpb": 1 + 0.1 * number + step}
        for step, slug in enumerate(("a", "b"))
        for number, name in enumerate(names)
    )
    evidence = Evidence(
        pages=lake.read("pages", "training"), domains=found.domains, mixture=mixture, estimates=estimates
    )
    return World(
        study=study,
        folder=folder,
        lake=lake,
        tables=Tables(domains=found.domains, near_duplicates=sampled.near_duplicates, mixture=mixture, losses=losses),
        filters=filter_tables(study, evidence, folder / "filters")["page_filters"]
        if "ours" in filter_settings(study).arms
        else TABLES["page_filters"].polars_schema.to_frame(),
    )
