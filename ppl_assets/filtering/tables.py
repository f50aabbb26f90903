"""The page filters of all targets: trained, measured, written as folders, and told in the room's tables."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ppl_assets.corpus.splits import seeded_hash
from ppl_assets.filtering.artifact import CARD_FILE, MODEL_FILE, Card, model_digest, write_card
from ppl_assets.filtering.classifier import ClassifierSettings
from ppl_assets.filtering.labels import domain_labels
from ppl_assets.filtering.ngrams import deciding, influences
from ppl_assets.filtering.normalization import Normalization
from ppl_assets.filtering.training import Budget, HeldOut, Training, measure, train
from ppl_assets.mixture.tables import domain_tokens
from ppl_assets.processes import available_cores, temporary_path
from ppl_assets.schema import TABLES
from ppl_assets.study import schema
from ppl_assets.study.schema import Study
from ppl_assets.warehouse import data_version

# Deciding n-grams listed in each direction, and the pages that they are counted on.
_NGRAMS, _NGRAM_PAGES = 15, 400
_TABLES = ("page_filters", "filter_metrics", "filter_ngrams")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What filters are made from: tables of the lake, `estimates` of the estimator that decides alone."""

    pages: pl.DataFrame
    domains: pl.DataFrame
    mixture: pl.DataFrame
    estimates: pl.DataFrame


def filter_tables(
    study: Study, evidence: Evidence, folder: Path, *, trained: Callable[[int, int], None] | None = None
) -> dict[str, pl.DataFrame]:
    """Train the filter of every target into `folder`/<target>; rows of the room's tables by name.

    `trained` is called after each classifier with how many are done, and how many there are.

    Raises:
        InputError: labels that the estimator does not give, or a training that diverged.
    """
    settings = filter_settings(study)
    budget, count = pool_budget(study, evidence.domains), len(study.targets) * (settings.folds + 1)
    found: dict[str, list[pl.DataFrame]] = {name: [] for name in _TABLES}
    for number, target in enumerate(study.targets):

        def report(done: int, begun: int = number * (settings.folds + 1)) -> None:
            if trained:
                trained(begun + done, count)

        for name, rows in _target_tables(study, target, evidence, budget, folder, report).items():
            found[name].append(rows)
    return {name: pl.concat(rows) for name, rows in found.items()}


def filter_settings(study: Study) -> schema.PageFilter:
    """The study's settings of page filters, which it has where this room is asked."""
    assert study.filter is not None, "the study states no filter"
    return study.filter


def filter_files(folder: Path, filters: pl.DataFrame) -> list[Path]:
    """The files of the filters that the table ``page_filters`` lists as trained."""
    targets = filters.filter(pl.col("status") == "trained")["target"]
    return [folder / target / name for target in targets for name in (MODEL_FILE, CARD_FILE)]


def pool_budget(study: Study, domains: pl.DataFrame) -> Budget:
    """The token budget, and what each domain that policy allows holds of the pool."""
    allowed = domains.filter(pl.col("policy") == "allow")
    pool = dict(zip(allowed["domain"], domain_tokens(allowed).astype(int).tolist(), strict=True))
    mixture = study.mixture
    return Budget(tokens=mixture.budget_tokens or round(float(mixture.keep or 1) * sum(pool.values())), pool=pool)


def training_settings(study: Study) -> Training:
    """The study's settings as this room's modules take them."""
    settings = filter_settings(study)
    return Training(
        classifier=ClassifierSettings(
            dimension=settings.dimension,
            word_ngrams=settings.word_ngrams,
            buckets=settings.buckets,
            epochs=settings.epochs,
            min_steps=settings.min_steps,
            learning_rate=settings.learning_rate,
            min_count=settings.min_count,
            seed=study.seed,
        ),
        normalization=Normalization(unicode_form=settings.unicode_form, lowercase=settings.lowercase),
        folds=settings.folds,
        near_duplicate_similarity=settings.near_duplicate_similarity,
        processes=available_cores(),
    )


def labelled_pages(study: Study, target: str, evidence: Evidence) -> pl.DataFrame:
    """The sampled pages of domains with a label, at most so many of each domain as the study says."""
    settings = filter_settings(study)
    labels = domain_labels(
        evidence.mixture.filter(pl.col("target") == target),
        evidence.estimates.filter(pl.col("target") == target),
        evidence.domains,
        settings.labels,
    )
    if not settings.soft:
        labels = labels.with_columns(pl.col("label").round()).filter(pl.col("label") != 0.5)
    known = evidence.domains.select("domain", "language", "domain_group", "license")
    pages = evidence.pages.drop("split", "bytes").join(labels, on="domain").join(known, on="domain", how="left")
    if settings.pages_per_domain is None:
        return pages.sort("page_id")
    order = pl.Series([seeded_hash(name, study.seed, "filter") for name in pages["page_id"]], dtype=pl.Int64)
    place = pl.col("order").rank("ordinal").over("domain")
    return pages.with_columns(order=order).filter(place <= settings.pages_per_domain).drop("order").sort("page_id")


def _target_tables(
    study: Study, target: str, evidence: Evidence, budget: Budget, folder: Path, trained: Callable[[int], None]
) -> dict[str, pl.DataFrame]:
    """One target's filter and rows."""
    pages, settings = labelled_pages(study, target, evidence), filter_settings(study)
    mixture = evidence.mixture.filter(pl.col("target") == target)
    included = int((pages["label"] >= 0.5).sum())
    row = {
        "target": target,
        "labels": settings.labels,
        "mixture": data_version(mixture),
        "pages": pages.height,
        "included": included,
        "domains": pages["domain"].n_unique(),
        "groups": 0,
        "model_digest": None,
        "threshold": None,
    }
    why = _no_filter(mixture, pages)
    if why:
        return _rows({**row, "status": "none", "reason": why})
    training = training_settings(study)
    place = folder / target
    place.mkdir(parents=True, exist_ok=True)
    held_out = measure(pages, place, training, budget, trained=lambda done, _: trained(done))
    temporary = temporary_path(place / MODEL_FILE)
    classifier = train(pages, temporary, training)
    trained(training.folds + 1)
    drawn = np.random.default_rng(study.seed).permutation(pages.height)[:_NGRAM_PAGES]
    ngrams = deciding(influences(classifier, pages["text"].gather(drawn).to_list()), _NGRAMS)
    temporary.replace(place / MODEL_FILE)
    row |= {
        "groups": held_out.pages["group"].n_unique(),
        "model_digest": model_digest(place),
        "threshold": held_out.threshold,
        "status": "trained",
        "reason": _trained_sentence(held_out, pages),
    }
    write_card(place, _card(row, held_out, ngrams, training, budget, pages))
    return _rows(row, held_out.metrics, ngrams)


def _no_filter(mixture: pl.DataFrame, pages: pl.DataFrame) -> str | None:
    """Why there is nothing to learn; None where there is."""
    if (mixture["decision"] == "fallback").any():
        return "the mixture is the pool's own distribution, so every page is as good as another"
    if pages.is_empty():
        return "no sampled page belongs to a domain with an estimate"
    # Soft labels below a half throughout still say which pages to prefer.
    if (pages["label"] == pages["label"][0]).all():
        return f"every domain that pages were sampled of has the label {pages['label'][0]:.2g}"
    return None


def _trained_sentence(held_out: HeldOut, pages: pl.DataFrame) -> str:
    sites = held_out.pages["group"].n_unique()
    scored = held_out.pages["logit"].count()
    sentence = f"trained on {pages.height} pages of {sites} groups of sites"
    return sentence if scored == pages.height else f"{sentence}; {pages.height - scored} pages could not be held out"


def _card(
    row: dict[str, object],
    held_out: HeldOut,
    ngrams: dict[str, float],
    training: Training,
    budget: Budget,
    pages: pl.DataFrame,
) -> Card:
    """The model card of a trained filter."""
    metrics: dict[str, dict[str, list[float | None]]] = {}
    for part, metric, *numbers in held_out.metrics.drop("pages").iter_rows():
        metrics.setdefault(part, {})[metric] = numbers
    licenses = Counter(str(license or "not stated") for license in pages["license"])
    return Card(
        target=str(row["target"]),
        mixture=str(row["mixture"]),
        labels=str(row["labels"]),
        model_digest=str(row["model_digest"]),
        threshold=held_out.threshold,
        budget_tokens=round(budget.tokens),
        normalization=training.normalization,
        calibration=held_out.calibration,
        classifier=training.classifier,
        metrics=metrics,
        ngrams=ngrams,
        training={name: row[name] for name in ("pages", "included", "domains", "groups")} | {"folds": training.folds},
        licenses=dict(sorted(licenses.items())),
    )


def _rows(
    row: dict[str, object], metrics: pl.DataFrame | None = None, ngrams: dict[str, float] | None = None
) -> dict[str, pl.DataFrame]:
    """Rows of the three tables for one target."""
    schemas = {name: TABLES[name].polars_schema for name in _TABLES}
    target = pl.lit(row["target"], dtype=pl.String)
    metrics = metrics if metrics is not None else schemas["filter_metrics"].to_frame().drop("target")
    influence = pl.DataFrame(
        {"ngram": list(ngrams or {}), "influence": list((ngrams or {}).values())},
        schema={"ngram": pl.String, "influence": pl.Float64},
    )
    return {
        "page_filters": pl.DataFrame([row], schema=schemas["page_filters"]),
        "filter_metrics": metrics.with_columns(target=target).select(schemas["filter_metrics"].names()),
        "filter_ngrams": influence.with_columns(target=target).select(schemas["filter_ngrams"].names()),
    }
