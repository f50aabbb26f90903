"""From tables to matrices: the losses and errors of the models that have both.

Axes: M models, D domains. A loss that is missing stays NaN; a model without an error on a target leaves that target
alone, and so does a domain that too few of its models have a loss on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.estimation.inputs import MIN_FAMILIES
from ppl_assets.estimation.page_sampling import SampledPages
from ppl_assets.estimation.targets import check_orientation, contrast_target, target_errors
from ppl_assets.likelihood.page_losses import PageLosses
from ppl_assets.study.schema import Target


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Losses of M models on D domains, with their lineage; `error_M` where a target was chosen, `pages` where known."""

    slugs: tuple[str, ...]
    families: tuple[str, ...]
    kinds: tuple[str, ...]
    params_M: np.ndarray
    domains: tuple[str, ...]
    groups: tuple[str, ...]
    bpb_MD: np.ndarray
    error_M: np.ndarray
    pages: SampledPages | None = None


def loss_evidence(models: pl.DataFrame, domains: pl.DataFrame, losses: pl.DataFrame) -> Evidence:
    """Losses of the registered models on the domains that policy allows, models and domains in order of their names."""
    allowed = domains.filter(pl.col("policy") == "allow").sort("domain")
    kept = losses.join(allowed.select("domain"), on="domain", how="semi").filter(pl.col("bpb").is_not_null())
    if kept.is_empty():
        raise InputError("no model has a loss on any allowed domain; expected losses from scoring or an import")
    slugs = kept["slug"].unique().sort()
    names = allowed["domain"].filter(allowed["domain"].is_in(kept["domain"].unique().implode()))
    # By position: a pivot to ten thousand columns takes twenty seconds.
    bpb_MD = np.full((len(slugs), len(names)), np.nan)
    bpb_MD[slugs.search_sorted(kept["slug"]), names.search_sorted(kept["domain"])] = kept["bpb"]
    lineage = slugs.to_frame().join(models, on="slug", how="left", maintain_order="left")
    group = dict(allowed.select("domain", pl.col("domain_group").fill_null("")).iter_rows())
    return Evidence(
        slugs=tuple(slugs),
        families=tuple(lineage["family"]),
        kinds=tuple(lineage["kind"]),
        params_M=lineage["params"].cast(pl.Float64).fill_null(np.nan).to_numpy(),
        domains=tuple(names),
        groups=tuple(group[name] for name in names),
        bpb_MD=bpb_MD,
        error_M=np.full(len(bpb_MD), np.nan),
    )


def for_target(evidence: Evidence, errors: pl.DataFrame, target: str, *, minimum_models: int) -> Evidence:
    """The models that have an error on `target`, with it, and the domains that they can judge.

    Those are the domains on which at least `minimum_models` of them, of two families or more, have a loss. The
    correlation over two models is 1 or -1 whatever they are, and of one family's models nothing shows how far off it
    is: such domains would win every choice and decide what the gate says of the others.

    Raises:
        InputError: there is no such domain.
    """
    own = with_errors(evidence, errors, target)
    present_MD, family_M = ~np.isnan(own.bpb_MD), np.array(own.families)
    families_D = sum(present_MD[family_M == family].any(axis=0).astype(int) for family in set(own.families))
    count_D = present_MD.sum(axis=0)
    columns = np.flatnonzero((count_D >= minimum_models) & (families_D >= MIN_FAMILIES))
    if not len(columns):
        raise InputError(
            f"target {target!r}: no domain has losses of at least {minimum_models} models of {MIN_FAMILIES} families "
            f"that have an error (study field estimation.minimum_models); found at most {count_D.max()} models"
        )
    return on_domains(own, columns)


def on_domains(evidence: Evidence, columns: np.ndarray) -> Evidence:
    """The same for some of the domains, by ascending column."""
    pages = evidence.pages.of_domains(columns) if evidence.pages else None
    return replace(
        evidence,
        domains=tuple(evidence.domains[column] for column in columns),
        groups=tuple(evidence.groups[column] for column in columns),
        bpb_MD=evidence.bpb_MD[:, columns],
        pages=pages if pages and len(pages.domain_P) else None,
    )


def with_errors(evidence: Evidence, errors: pl.DataFrame, target: str) -> Evidence:
    """The models that have an error on `target`, with it; errors are rows of ``benchmark_errors``."""
    known = dict(errors.filter(pl.col("target") == target).select("slug", "error").iter_rows())
    rows = [index for index, slug in enumerate(evidence.slugs) if slug in known]
    return Evidence(
        slugs=tuple(evidence.slugs[index] for index in rows),
        families=tuple(evidence.families[index] for index in rows),
        kinds=tuple(evidence.kinds[index] for index in rows),
        params_M=evidence.params_M[rows],
        domains=evidence.domains,
        groups=evidence.groups,
        bpb_MD=evidence.bpb_MD[rows],
        error_M=np.array([known[evidence.slugs[index]] for index in rows]),
        pages=evidence.pages.of_models(rows) if evidence.pages else None,
    )


def with_pages(evidence: Evidence, losses: PageLosses) -> Evidence:
    """The evidence with the pages behind its losses, where there are any: of a model that was not scored here, none."""
    column = {domain: index for index, domain in enumerate(evidence.domains)}
    kept = [(column[domain], place) for place, domain in enumerate(losses.domain_P) if domain in column]
    row = {slug: index for index, slug in enumerate(losses.slugs)}
    if not kept or row.keys().isdisjoint(evidence.slugs):
        return evidence
    domain_P, place_P = np.array(sorted(kept)).T
    nats_MP, bytes_MP = np.zeros((2, len(evidence.slugs), len(domain_P)))
    for index, slug in enumerate(evidence.slugs):
        if slug in row:
            nats_MP[index], bytes_MP[index] = losses.nll_MP[row[slug], place_P], losses.bytes_MP[row[slug], place_P]
    return replace(evidence, pages=SampledPages(nats_MP=nats_MP, bytes_MP=bytes_MP, domain_P=domain_P))


def errors_by_target(
    targets: Mapping[str, Target],
    scores: pl.DataFrame,
    evidence: Evidence,
    *,
    minimum_models: int,
    missing: Sequence[str],
) -> pl.DataFrame:
    """Rows of ``benchmark_errors``: one error per model and target.

    Args:
        scores: rows of ``benchmark_scores``.
        evidence: losses, for the check that errors rise with them.
        minimum_models: fewer models with a loss and an error are refused, in all and on every domain.
        missing: models without scores or losses, named where too few are left.

    A contrast's error is in centred ranks; whether it rises with losses is asked of what it was before.

    Raises:
        InputError: a task and metric that no model has, a value out of range, an error that falls as losses rise, or
            too few models.
    """
    frames = {}
    for name, target in targets.items():
        values_MK = np.column_stack(
            [_values(scores, name, task.task, task.metric, evidence.slugs) for task in target.tasks]
        )
        found = target_errors(
            values_MK,
            tasks=[f"{task.task} ({task.metric})" for task in target.tasks],
            kinds=[t.kind for t in target.tasks],
        )
        rows = pl.DataFrame({"slug": evidence.slugs, "target": name, "error": found.error, "tasks": found.tasks})
        frames[name] = _enough(rows.filter(pl.col("error").is_not_nan()), name, minimum_models, missing)
        if not target.allow_reversed:
            own = for_target(evidence, frames[name], name, minimum_models=minimum_models)
            check_orientation(own.bpb_MD, own.error_M, target=name)
    raw = pl.concat(frames.values())
    for name, target in targets.items():
        if target.contrast_to:
            frames[name] = _enough(_contrast(raw, name, target.contrast_to), name, minimum_models, missing)
    return pl.concat(frames.values())


def errors_of(
    name: str, targets: Mapping[str, Target], scores: pl.DataFrame, evidence: Evidence, *, minimum_models: int
) -> pl.DataFrame:
    """Rows of ``benchmark_errors`` of target `name` alone, among `targets`: as `errors_by_target` makes them.

    Raises:
        InputError: as `errors_by_target`, also for a target that `name` is a contrast to.
    """
    # A contrast is taken to what the other targets are before any contrast of their own.
    others = {other: targets[other].model_copy(update={"contrast_to": ()}) for other in targets[name].contrast_to}
    needed = {name: targets[name], **others}
    errors = errors_by_target(needed, scores, evidence, minimum_models=minimum_models, missing=())
    return errors.filter(pl.col("target") == name)


def error_matrix(errors: pl.DataFrame, targets: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Slugs of the rows of ``benchmark_errors``, sorted, and their errors: models x `targets`, NaN where missing."""
    slugs = sorted(set(errors["slug"]))
    known = {(slug, target): error for slug, target, error in errors.select("slug", "target", "error").iter_rows()}
    return slugs, np.array([[known.get((slug, target), np.nan) for target in targets] for slug in slugs])


def _enough(rows: pl.DataFrame, name: str, minimum_models: int, missing: Sequence[str]) -> pl.DataFrame:
    if rows.height < minimum_models:
        absent = f"; without scores or losses: {', '.join(missing)}" if missing else ""
        raise InputError(
            f"target {name!r}: {rows.height} models have losses and scores, expected at least {minimum_models} "
            f"(study field estimation.minimum_models){absent}"
        )
    return rows


def _contrast(errors: pl.DataFrame, name: str, others: Sequence[str]) -> pl.DataFrame:
    """Rows of `name` with what is particular to it next to `others`, for the models that have all of them."""
    targets = [name, *others]
    slugs, error_MT = error_matrix(errors.filter(pl.col("target").is_in(targets)), targets)
    contrast = pl.DataFrame({"slug": slugs, "error": contrast_target(error_MT, targets, name)})
    known = contrast.filter(pl.col("error").is_not_nan())
    rows = errors.filter(pl.col("target") == name).drop("error")
    return rows.join(known, on="slug", maintain_order="left").select(errors.columns)


def _values(scores: pl.DataFrame, target: str, task: str, metric: str, slugs: Sequence[str]) -> np.ndarray:
    """One task's metric for each model; NaN where a model lacks it."""
    rows = scores.filter((pl.col("task") == task) & (pl.col("metric") == metric))
    if rows.is_empty():
        reported = sorted(set(scores.filter(pl.col("task") == task)["metric"]))
        expected = f"task {task!r} reports {', '.join(reported)}" if reported else f"no scores of task {task!r}"
        raise InputError(f"target {target!r}: no model has metric {metric!r} of task {task!r}; {expected}")
    known = dict(rows.select("slug", "value").iter_rows())
    return np.array([known.get(slug, np.nan) for slug in slugs], dtype=np.float64)
