"""What every asset is computed from, and therefore when it is stale: decided by fingerprints, never by time.

A recipe lists an asset's tables, the version of its code and its inputs: the parts of the study that matter to it and
the data versions of the tables that it reads. The fingerprint is the hash of all of that, stored in the footer of each
part that the asset writes; a part is current while the stored fingerprint equals the one computed now. Data versions
hash content, so an identical recomputation upstream leaves everything downstream current.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel

from ppl_assets.benchmarks.tables import task_folder_digest
from ppl_assets.corpus import source_fingerprint
from ppl_assets.export import certificate_files
from ppl_assets.filtering.eligibility import eligible_split
from ppl_assets.filtering.tables import filter_files
from ppl_assets.orchestration.workspace import SPLITS, Workspace
from ppl_assets.pilot.arms import named_texts
from ppl_assets.pilot.comparison import CONTROLS
from ppl_assets.pilot.preregistration import plan, plan_hash
from ppl_assets.pilot.tokenizer import trains_tokenizer
from ppl_assets.registry import ZOO, identity, import_digest, local_revision
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import checkpoint_slug
from ppl_assets.warehouse import data_version, file_digest

Inputs = Callable[[Workspace, str | None], Any]

# What a certificate tells of, besides losses and scores of every model.
CERTIFIED_TABLES = (
    "models",
    "domains",
    "benchmark_errors",
    "correlation_estimates",
    "domain_audits",
    "signal_gate",
    "pretraining_mixture",
    "shadow_prices",
)
# Bump it when a text would get other numbers: known losses are then scored again, not only assembled again.
_SCORING_CODE = "4"
# Bump it when a page would get another row of page_scores.
_PAGE_CODE = "3"
# Bump it when a pilot's model would get other numbers: those of trained ones are then measured again.
_MEASURING_CODE = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one asset comes about. Bump `code_version` whenever the same inputs would give other rows."""

    asset: str
    tables: tuple[str, ...] = ()
    partitioned_by: Literal["model", "run", "arm"] | None = None
    code_version: str
    inputs: Inputs
    applies: Callable[[Workspace], bool] = lambda workspace: True
    on_request: bool = False
    """Runs where somebody selects it and never by itself: a pilot can cost days of a GPU."""
    takes_model: Callable[[Workspace, str], bool] = lambda workspace, slug: True
    files: Callable[[Workspace, str | None], list[Path]] = lambda workspace, partition: []
    # Parts of the lake that follow the source's shards, not the asset's partitions.
    shards: Callable[[Workspace], list[tuple[str, str]]] = lambda workspace: []

    def parts(self, partition: str | None) -> list[tuple[str, str | None]]:
        """Table and part of everything that the asset writes to the lake."""
        parts: list[tuple[str, str | None]] = []
        for table in self.tables:
            match TABLES[table].partition:
                case "split":
                    parts += [(table, split) for split in SPLITS]
                case "artifact":
                    parts.append((table, self.asset))
                case _:
                    parts.append((table, partition))
        return parts


def fingerprint(workspace: Workspace, asset: str, partition: str | None = None) -> str:
    """Hash of everything that the asset would be computed from now."""
    recipe = RECIPES[asset]
    return canonical_hash([asset, recipe.code_version, recipe.inputs(workspace, partition)])


def is_current(workspace: Workspace, asset: str, partition: str | None = None) -> bool:
    """Whether all that the asset writes is there, whole, and computed from what it would be computed from now."""
    recipe = RECIPES[asset]
    parts = recipe.parts(partition)
    footers = [workspace.lake.footer(table, part) for table, part in parts]
    if any(footer is None for footer in footers):
        return False
    if not all(path.exists() for path in recipe.files(workspace, partition)):
        return False
    if not all(workspace.lake.exists(*part) for part in recipe.shards(workspace)):
        return False
    expected = fingerprint(workspace, asset, partition)
    as_expected = all(footer is not None and footer.fingerprint == expected for footer in footers)
    return as_expected and all(workspace.intact(table, part) for table, part in parts)


def pilot_is_current(workspace: Workspace) -> bool:
    """Whether the pilot's comparison is of the study's plan and of arms that would choose the same pages now."""
    if workspace.study.pilot is None or not is_current(workspace, "pilot_comparison"):
        return False
    return all(is_current(workspace, "pilot_runs", arm) for arm in workspace.piloted("pilot_runs"))


def partitions(workspace: Workspace, asset: str) -> list[str | None]:
    """The partitions that an asset should have: slugs, runs, or the single None."""
    recipe = RECIPES[asset]
    match recipe.partitioned_by:
        case "model":
            return [slug for slug in workspace.slugs() if recipe.takes_model(workspace, slug)]
        case "run":
            return [*workspace.runs()]
        case "arm":
            return [*workspace.study.pilot_arms]
        case None:
            return [None]


def canonical_hash(value: Any) -> str:
    """Hash of JSON-like content, independent of the order of keys; refuses what has no stable form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no stable form to hash; give its identity as plain values")


def _version(workspace: Workspace, table: str, part: str | None = None) -> str | None:
    """Hash of a part's rows as its footer states it; None where there is no readable part."""
    footer = workspace.lake.footer(table, part)
    return footer.data_version if footer else None


def _versions_by_model(workspace: Workspace, table: str) -> dict[str, str | None]:
    return {slug: _version(workspace, table, slug) for slug in workspace.present(table)}


def _rows_of(workspace: Workspace, table: str, slug: str | None) -> str | None:
    """Hash of a model's rows in a table that is not partitioned by model; None where it has none."""
    rows = workspace.table(table).filter(pl.col("slug") == slug)
    return data_version(rows) if rows.height else None


def _identity(workspace: Workspace, slug: str | None) -> dict[str, Any]:
    """What makes a registered model the model it is.

    A checkpoint of the pool is known by its weights, which are the same whatever context its configuration states.
    """
    model, zoo = workspace.model(str(slug)), workspace.study.zoo
    return identity(model) | ({"context_tokens": zoo.context_tokens} if zoo and model["source"] == ZOO else {})


def _training(workspace: Workspace, run: str | None) -> Any:
    """A training run's inputs: its own settings and the pool's common ones, not the other runs'."""
    zoo = workspace.study.zoo
    assert zoo is not None
    own = next(each for each in zoo.runs if each.run == run)
    common = zoo.model_dump(mode="json", exclude={"runs", "tokenizers", "architectures"})
    parts = [zoo.tokenizers[own.tokenizer], zoo.architectures[own.architecture]]
    return [own, common, *parts, _version(workspace, "pages", "training")]


def _checkpoint_folders(workspace: Workspace, run: str | None) -> list[Path]:
    zoo = workspace.study.zoo
    assert zoo is not None
    return [workspace.settings.models / checkpoint_slug(str(run), step) for step in zoo.checkpoints]


def _registered(workspace: Workspace, _: str | None) -> Any:
    study = workspace.study
    local = {model.slug: local_revision(study.path(model.source), workspace.settings.digests) for model in study.models}
    zoo = {run: _version(workspace, "zoo_checkpoints", run) for run in workspace.runs()}
    imported = [_version(workspace, table) for table in ("imported_bpb", "imported_scores")]
    return [study.models, study.model_policy, local, zoo, imported]


def scoring_digest(workspace: Workspace, slug: str) -> str:
    """Hash of everything but the text that decides what a text costs a model: its files, settings and our code."""
    study = workspace.study
    trusted = [model.trust_remote_code for model in study.models if model.slug == slug]
    return canonical_hash([_SCORING_CODE, _identity(workspace, slug), study.scoring, trusted])


def _scored(workspace: Workspace, slug: str | None) -> Any:
    return [scoring_digest(workspace, str(slug)), _version(workspace, "chunks")]


def _benchmarked(workspace: Workspace, slug: str | None) -> Any:
    study = workspace.study
    wanted = sorted({(task.task, task.metric) for target in study.targets.values() for task in target.tasks})
    folders = _task_folders(workspace)
    settings = study.benchmarks.model_dump(mode="json", exclude={"build", "task_folders"})
    trusted = [model.trust_remote_code for model in study.models if model.slug == slug]
    own = [_identity(workspace, slug), trusted, _rows_of(workspace, "imported_scores", slug)]
    return [own, wanted, folders, settings, _version(workspace, "benchmark_tasks")]


def _task_folders(workspace: Workspace) -> list[list[tuple[str, str]]]:
    """Names and digests of the files in the study's own folders of tasks."""
    study = workspace.study
    return [
        task_folder_digest(study.path(folder), workspace.settings.digests) for folder in study.benchmarks.task_folders
    ]


def _aggregated(workspace: Workspace, slug: str | None) -> Any:
    scored = None
    if workspace.scores_text(str(slug)):
        scored = [_version(workspace, "chunk_logliks", slug), _version(workspace, "chunks")]
    return [scored, _rows_of(workspace, "imported_bpb", slug)]


def _evidence(workspace: Workspace, _: str | None) -> Any:
    """What every estimate rests on: errors, losses, lineage, groups and how they are weighed."""
    study = workspace.study
    settings = study.estimation.model_dump(mode="json", exclude={"gate"})
    lineage = data_version(workspace.models().select("slug", "family", "run", "kind", "params"))
    losses = _versions_by_model(workspace, "domain_logliks")
    domains = [_version(workspace, "domains"), _version(workspace, "benchmark_errors")]
    return [settings, study.seed, lineage, losses, domains]


def _probe_settings(workspace: Workspace) -> Any:
    """What proposed training runs name of the study's own pool."""
    zoo = workspace.study.zoo
    return [[*zoo.tokenizers][:1], [*zoo.architectures][:1]] if zoo else None


def _filtered(workspace: Workspace, _: str | None) -> Any:
    """What page filters are trained on; the arms, their settings and the bounds of a selection are no part of it."""
    study = workspace.study
    assert study.filter is not None
    later = {"arms", "with_text", "reference_model", "target_texts", "languages", "bounds"}
    settings = study.filter.model_dump(mode="json", exclude=later)
    tables = ("pretraining_mixture", "correlation_estimates", "domains")
    pages = _version(workspace, "pages", eligible_split(study))
    return [
        settings,
        study.mixture,
        study.estimation.estimator,
        study.seed,
        pages,
        [_version(workspace, table) for table in tables],
    ]


def _selected(workspace: Workspace, _: str | None) -> Any:
    """What pages are selected from and by: the source, the filters, what arms by domain rest on, and the bounds."""
    study = workspace.study
    assert study.filter is not None
    named = sorted({name for names in study.filter.target_texts.values() for name in names})
    return [
        _pool(workspace),
        [study.filter, study.mixture],
        _file_digests(workspace, named),
        [_version(workspace, "pages", split) for split in (eligible_split(study), "benchmark")],
        _versions_by_model(workspace, "domain_logliks"),
        [_version(workspace, table) for table in ("pretraining_mixture", "page_filters")],
    ]


def _file_digests(workspace: Workspace, names: Sequence[str]) -> list[str | None]:
    """Digests of files that the study names; None for one that is not there."""
    paths = [workspace.study.path(name) for name in names]
    return [file_digest(path, workspace.settings.digests) if path.is_file() else None for path in paths]


def _selected_shards(workspace: Workspace) -> list[tuple[str, str]]:
    """The parts of ``selected_pages``, one per shard of the source."""
    parts = workspace.lake.partitions("page_shards")
    return [("selected_pages", shard) for shard in workspace.lake.read_partitions("page_shards", parts)["shard"]]


def page_scoring(workspace: Workspace, methods: Sequence[tuple[str, str]]) -> str:
    """Hash of everything but its text that decides the row of a page; methods by name and identity."""
    study = workspace.study
    assert study.corpus is not None
    corpus = study.corpus.model_dump(mode="json", exclude={"source": {"paths"}})
    corpus["reference_tokenizer"] = _reference_tokenizer(workspace)
    return canonical_hash([_PAGE_CODE, corpus, study.policy, study.seed, workspace.retired.patterns, methods])


def _versions_by_arm(workspace: Workspace, table: str) -> dict[str, str | None]:
    return {arm: _version(workspace, table, arm) for arm in workspace.piloted(table)}


def _piloted(workspace: Workspace, arm: str | None) -> Any:
    """What an arm's runs are trained and measured on, and the plan that they belong to."""
    study = workspace.study
    assert study.pilot is not None
    places = [study.pilot.tokenizer, *(size.start for size in study.pilot.sizes.values())]
    models = {place: local_revision(study.path(place), workspace.settings.digests) for place in places if place}
    return [
        plan_hash(plan(study)),
        models,
        _pool(workspace) if trains_tokenizer(study.pilot) else None,
        pilot_measures(workspace),
        _arm_pages(workspace, str(arm)),
    ]


def pilot_measures(workspace: Workspace) -> str:
    """Hash of what a pilot's models are measured on: of one that was, an edit of anything else leaves the numbers."""
    study = workspace.study
    return canonical_hash(
        [
            _MEASURING_CODE,
            {name: study.targets[name].tasks for name in study.pilot_targets},
            study.benchmarks.limit,
            _task_folders(workspace),
            [_version(workspace, table) for table in ("benchmark_tasks", "chunks")],
        ]
    )


def _pool(workspace: Workspace) -> Any:
    """What pages any arm may select: the source, how it is read, and what is left out of it."""
    return [
        source_fingerprint(workspace.study, cache=workspace.settings.digests),
        page_scoring(workspace, []),
        [_version(workspace, table) for table in ("domains", "near_duplicates")],
    ]


def _arm_pages(workspace: Workspace, arm: str) -> Any:
    """Which pages an arm trains on: its selections, or of a control what they are drawn from."""
    study = workspace.study
    if arm in CONTROLS:
        return [
            # A control takes pages that no other arm does, and of those the selections say nothing.
            _pool(workspace),
            [_version(workspace, table) for table in ("selections", "pretraining_mixture")],
            _file_digests(workspace, named_texts(study, arm)),
        ]
    own = workspace.table("selections").filter(pl.col("arm") == arm)
    return own.sort("target").select("target", "pages_digest").rows()


def _published(workspace: Workspace) -> dict[str, Any]:
    """Data versions of every published table."""
    versions: dict[str, Any] = {}
    for table in TABLES.values():
        if table.published and table.partition is None:
            versions[table.name] = _version(workspace, table.name)
        elif table.published and table.partition == "slug":
            versions[table.name] = _versions_by_model(workspace, table.name)
        elif table.published and table.partition == "arm":
            versions[table.name] = _versions_by_arm(workspace, table.name)
    return versions


def _text(workspace: Workspace) -> dict[str, Any] | None:
    """What the study says of its text; what it expects of the source's size decides nothing."""
    corpus = workspace.study.corpus
    if corpus is None:
        return None
    return corpus.model_dump(mode="json", exclude={"expected"}) | {
        "reference_tokenizer": _reference_tokenizer(workspace)
    }


def _reference_tokenizer(workspace: Workspace) -> dict[str, Any]:
    """What the study says of its unit of tokens; of a file the content instead of the name."""
    study = workspace.study
    assert study.corpus is not None
    unit = study.corpus.reference_tokenizer
    path = study.path(unit.file) if unit.file else None
    content = file_digest(path, workspace.settings.digests) if path and path.is_file() else None
    return unit.model_dump(mode="json") | {"file": content}


def _has_corpus(workspace: Workspace) -> bool:
    return workspace.study.corpus is not None


def _has_pilot(workspace: Workspace) -> bool:
    return workspace.study.pilot is not None


_RECIPES = (
    Recipe(
        asset="imported_bpb",
        tables=("imported_bpb",),
        code_version="2",
        inputs=lambda workspace, _: [
            import_digest(workspace.study, workspace.settings, "bpb"),
            workspace.retired.patterns,
        ],
    ),
    Recipe(
        asset="imported_scores",
        tables=("imported_scores",),
        code_version="2",
        inputs=lambda workspace, _: import_digest(workspace.study, workspace.settings, "scores"),
    ),
    Recipe(
        asset="domain_catalog",
        tables=("domains", "page_sample", "page_rejections"),
        code_version="1",
        inputs=lambda workspace, _: [
            _text(workspace),
            workspace.study.policy,
            workspace.retired.patterns,
            workspace.study.seed,
            source_fingerprint(workspace.study, cache=workspace.settings.digests) if workspace.study.corpus else None,
            _version(workspace, "imported_bpb"),
        ],
    ),
    Recipe(
        asset="corpus_pages",
        tables=("pages", "near_duplicates"),
        code_version="2",
        applies=_has_corpus,
        inputs=lambda workspace, _: [
            _text(workspace),
            source_fingerprint(workspace.study, cache=workspace.settings.digests),
            workspace.retired.patterns,
            _version(workspace, "page_sample"),
        ],
    ),
    Recipe(
        asset="corpus_chunks",
        tables=("chunks",),
        code_version="1",
        applies=_has_corpus,
        inputs=lambda workspace, _: [
            workspace.study.corpus.chunk_tokens if workspace.study.corpus else None,
            _reference_tokenizer(workspace),
            _version(workspace, "pages", "scoring"),
        ],
    ),
    Recipe(
        asset="benchmark_tasks",
        tables=("benchmark_tasks",),
        code_version="1",
        applies=lambda workspace: bool(workspace.study.benchmarks.build),
        inputs=lambda workspace, _: [
            workspace.study.benchmarks.build,
            workspace.study.seed,
            [_version(workspace, "pages", split) for split in SPLITS],
        ],
        files=lambda workspace, _: [
            workspace.settings.tasks / f"{task.task}.yaml" for task in workspace.study.benchmarks.build
        ],
    ),
    Recipe(
        asset="model_zoo",
        tables=("zoo_checkpoints",),
        partitioned_by="run",
        code_version="1",
        applies=lambda workspace: workspace.study.zoo is not None,
        inputs=_training,
        files=_checkpoint_folders,
    ),
    Recipe(asset="model_registry", tables=("models",), code_version="2", inputs=_registered),
    Recipe(
        asset="chunk_logliks",
        tables=("chunk_logliks",),
        partitioned_by="model",
        code_version=_SCORING_CODE,
        applies=_has_corpus,
        takes_model=Workspace.scores_text,
        inputs=_scored,
    ),
    Recipe(
        asset="domain_logliks", tables=("domain_logliks",), partitioned_by="model", code_version="1", inputs=_aggregated
    ),
    Recipe(
        asset="benchmark_scores",
        tables=("benchmark_scores",),
        partitioned_by="model",
        code_version="1",
        inputs=_benchmarked,
    ),
    Recipe(
        asset="benchmark_errors",
        tables=("benchmark_errors",),
        code_version="2",
        inputs=lambda workspace, _: [
            workspace.study.targets,
            _versions_by_model(workspace, "benchmark_scores"),
            _versions_by_model(workspace, "domain_logliks"),
        ],
    ),
    Recipe(
        asset="correlation_estimates",
        tables=("correlation_estimates", "kind_estimates"),
        code_version="4",
        inputs=lambda workspace, _: [
            _evidence(workspace, _),
            workspace.study.mixture.top_share,
            [_versions_by_model(workspace, "chunk_logliks"), _version(workspace, "chunks")],
        ],
    ),
    Recipe(
        asset="signal_gate",
        tables=("signal_gate", "target_pairs", "candidate_gains", "probe_proposals"),
        code_version="5",
        inputs=lambda workspace, _: [_evidence(workspace, _), _probe_settings(workspace)],
    ),
    Recipe(
        asset="rank_prediction",
        tables=("rank_prediction",),
        code_version="2",
        inputs=lambda workspace, _: [_evidence(workspace, _), workspace.study.mixture.top_share],
    ),
    Recipe(
        asset="domain_audits",
        tables=("domain_audits",),
        code_version="2",
        inputs=lambda workspace, _: [
            workspace.study.targets,
            workspace.study.estimation.estimator,
            _evidence(workspace, _),
            _versions_by_model(workspace, "benchmark_scores"),
            _versions_by_model(workspace, "chunk_logliks"),
            [_version(workspace, table) for table in ("chunks", "benchmark_tasks")],
            _task_folders(workspace),
        ],
    ),
    Recipe(
        asset="pretraining_mixture",
        tables=("pretraining_mixture", "mixture_gains", "shadow_prices", "mixture_changes"),
        # What was mixed before is no input: it is what the inputs before these left (see mixture.changes).
        code_version="3",
        inputs=lambda workspace, _: [
            workspace.study.mixture,
            workspace.study.estimation.gate,
            [_version(workspace, table) for table in ("correlation_estimates", "signal_gate", "domains")],
        ],
    ),
    Recipe(
        asset="page_filter",
        tables=("page_filters", "filter_metrics", "filter_ngrams"),
        code_version="4",
        applies=lambda workspace: workspace.study.filter is not None,
        inputs=_filtered,
        files=lambda workspace, _: filter_files(workspace.settings.filters, workspace.table("page_filters")),
    ),
    Recipe(
        asset="selected_pages",
        tables=("selections", "selection_shifts"),
        code_version="4",
        applies=lambda workspace: workspace.study.filter is not None,
        inputs=_selected,
        shards=_selected_shards,
    ),
    Recipe(
        asset="selection_certificates",
        tables=("certificates",),
        code_version="1",
        inputs=lambda workspace, _: [
            workspace.study,
            [_version(workspace, table) for table in (*CERTIFIED_TABLES, "mixture_changes")],
            [_versions_by_model(workspace, table) for table in ("domain_logliks", "benchmark_scores")],
        ],
        files=lambda workspace, _: [
            *certificate_files(workspace.settings.certificates, workspace.table("certificates"))
        ],
    ),
    Recipe(
        asset="next_measurements",
        tables=("next_measurements",),
        code_version="2",
        inputs=lambda workspace, _: [
            workspace.study.targets,
            workspace.study.estimation.estimator,
            [workspace.study.zoo, workspace.study.alternatives, workspace.study.benchmarks],
            _evidence(workspace, _),
            _versions_by_model(workspace, "benchmark_scores"),
            [_version(workspace, table) for table in ("models", "chunks", "domain_audits")],
        ],
    ),
    Recipe(
        asset="preregistration",
        tables=("preregistration",),
        code_version="1",
        on_request=True,
        applies=_has_pilot,
        inputs=lambda workspace, _: plan_hash(plan(workspace.study)),
    ),
    Recipe(
        asset="pilot_runs",
        tables=("pilot_runs", "pilot_domains", "pilot_curves"),
        partitioned_by="arm",
        code_version="2",
        on_request=True,
        applies=_has_pilot,
        inputs=_piloted,
    ),
    Recipe(
        asset="pilot_comparison",
        tables=("pilot_comparison", "pilot_ranks", "pilot_trend", "pilot_harm"),
        code_version="1",
        on_request=True,
        applies=_has_pilot,
        inputs=lambda workspace, _: [
            plan_hash(plan(workspace.study)),
            [_versions_by_arm(workspace, table) for table in ("pilot_runs", "pilot_domains")],
            workspace.study.prices,
        ],
    ),
    Recipe(
        asset="cost_ledger",
        tables=("cost_ledger",),
        code_version="2",
        inputs=lambda workspace, _: [_published(workspace) | {"cost_ledger": None}, workspace.study.prices],
    ),
    Recipe(
        asset="warehouse_file",
        tables=("artifacts",),
        code_version="1",
        inputs=lambda workspace, _: _published(workspace),
        files=lambda workspace, _: [workspace.settings.warehouse_file],
    ),
    Recipe(
        asset="selection_report",
        tables=("artifacts",),
        code_version="1",
        inputs=lambda workspace, _: [_published(workspace), workspace.study],
        files=lambda workspace, _: [workspace.settings.report_file],
    ),
)

RECIPES: dict[str, Recipe] = {recipe.asset: recipe for recipe in _RECIPES}
