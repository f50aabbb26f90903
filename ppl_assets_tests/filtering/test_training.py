"""Splits that do not leak, labels, and the filter as a folder."""

import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from ppl_assets.corpus.near_duplicates import jaccard, shingles
from ppl_assets.errors import InputError
from ppl_assets.filtering import Budget, Training, domain_labels, load, measure, split
from ppl_assets.filtering.classifier import ClassifierSettings
from ppl_assets.filtering.grouping import page_groups, site
from ppl_assets.filtering.tables import Evidence, filter_tables
from ppl_assets.study.loading import load_study
from ppl_assets_tests.filtering.worlds import labelled_pages

TRAINING = Training(classifier=ClassifierSettings(dimension=8, buckets=5000, min_count=1), replicates=100)


def mirrored_pages() -> pl.DataFrame:
    """A mirror of a page of site 1 on site 8, nearly a mirror of one of site 3 on site 10, and subdomains of site 5."""
    pages = labelled_pages()
    text = dict(zip(pages["page_id"], pages["text"], strict=True))
    words = text["site3:4"].split()
    mirrors = {"site8:0": text["site1:0"], "site10:2": " ".join(["once", *words[:-1]])}
    return pages.with_columns(
        text=pl.col("page_id").replace_strict(mirrors, default=pl.col("text")),
        domain=pl.when(pl.col("page_id") == "site5:0").then(pl.lit("blog.site5.org")).otherwise("domain"),
    )


def test_no_held_out_page_shares_site_text_or_near_duplicate_with_what_its_classifier_saw():
    folded = split(mirrored_pages(), TRAINING)
    assert folded["fold"].n_unique() == TRAINING.folds
    for fold in range(TRAINING.folds):
        test, train = folded.filter(pl.col("fold") == fold), folded.filter(pl.col("fold") != fold)
        assert not set(test["page_id"]) & set(train["page_id"])
        assert not {site(name) for name in test["domain"]} & {site(name) for name in train["domain"]}
        assert not set(test["group"]) & set(train["group"])
        seen = [shingles(text) for text in train["text"]]
        for text in test["text"]:
            own = shingles(text)
            assert max(jaccard(own, other) for other in seen) < TRAINING.near_duplicate_similarity


def test_the_mirrors_tie_sites_together_that_were_apart():
    """Without them each site is a group: the split above would be leak-proof by itself, and the test could not fail."""
    plain = labelled_pages()
    assert len(set(page_groups(plain["domain"].to_list(), plain["text"].to_list(), 0.6))) == 12
    pages = split(mirrored_pages(), TRAINING)
    group = dict(zip(pages["page_id"], pages["group"], strict=True))
    assert group["site1:0"] == group["site8:9"]
    assert group["site3:4"] == group["site10:0"]
    assert group["site5:0"] == group["site5:1"]
    assert pages["group"].n_unique() == 10


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("asyncio/code", "asyncio"),
        ("blog.example.co.uk", "example.co.uk"),
        ("example.co.uk", "example.co.uk"),
        ("a.b.example.com/path", "example.com"),
        ("poetry-3", "poetry-3"),
        ("192.168.0.1", "192.168.0.1"),
    ],
)
def test_a_site_is_the_registered_domain_or_what_stands_before_the_slash(domain, expected):
    assert site(domain) == expected


def test_folds_do_not_depend_on_the_order_of_pages_and_are_even():
    pages = mirrored_pages()
    folded = split(pages, TRAINING)
    shuffled = split(pages.sample(fraction=1, shuffle=True, seed=1), TRAINING)
    assert dict(folded.select("page_id", "fold").iter_rows()) == dict(shuffled.select("page_id", "fold").iter_rows())
    sizes = folded.group_by("fold").agg(pl.len(), positive=pl.sum("label"))
    assert sizes["len"].max() - sizes["len"].min() <= 20
    assert sizes["positive"].min() > 0


def test_held_out_measures_find_the_signal_and_pure_noise_is_at_chance(tmp_path):
    budget = Budget(tokens=0.3, pool={})
    pages = labelled_pages(sites=16)
    found = measure(pages, tmp_path, TRAINING, Budget(tokens=0.3 * pages["tokens"].sum(), pool={}))
    values = {(part, name): value for part, name, value in found.metrics.select("slice", "metric", "value").iter_rows()}
    assert values["all", "roc_auc"] > 0.99
    assert values["all", "precision_at_budget"] > 0.99
    assert values["language=fr", "roc_auc"] > 0.99
    assert ("group=None", "roc_auc") not in values
    assert list(tmp_path.iterdir()) == []
    rng = np.random.default_rng(0)
    coin = {
        name: float(label)
        for name, label in zip(pages["domain"].unique(maintain_order=True), rng.permutation([0, 1] * 8), strict=True)
    }
    noise = pages.with_columns(label=pl.col("domain").replace_strict(coin))
    noise = noise.with_columns(
        text=pl.Series(noise["text"].to_list()).str.replace_all("integral|theorem|celebrity|gossip", "word")
    )
    measured = measure(noise, tmp_path, TRAINING, budget)
    auc = measured.metrics.filter((pl.col("slice") == "all") & (pl.col("metric") == "roc_auc"))
    # A classifier that saw the held-out sites would be near 1; 16 sites of noise spread widely around 1/2.
    assert auc["value"][0] < 0.8


def test_a_page_counts_by_how_sure_its_label_is_and_beside_it_as_any_other(tmp_path):
    sure = {f"site{number}.org": [0.98, 0.45, 0.05, 0.6][number % 4] for number in range(12)}
    pages = labelled_pages()
    pages = pages.with_columns(label=pl.col("domain").replace_strict(sure, return_dtype=pl.Float64))
    found = measure(pages, tmp_path, TRAINING, Budget(tokens=0.3 * pages["tokens"].sum(), pool={}))
    values = dict(found.metrics.filter(pl.col("slice") == "all").select("metric", "value").iter_rows())
    held_out = found.pages.filter(pl.col("probability").is_not_null())
    label, logit, probability = (held_out[name].to_numpy() for name in ("label", "logit", "probability"))
    positive, weight = label >= 0.5, np.abs(2 * label - 1)
    assert values["roc_auc"] == pytest.approx(roc_auc_score(positive, logit, sample_weight=weight))
    assert values["roc_auc_unweighted"] == pytest.approx(roc_auc_score(positive, logit))
    chosen = probability >= 0.5
    assert values["precision"] == pytest.approx(precision_score(positive, chosen, sample_weight=weight))
    assert values["recall_unweighted"] == pytest.approx(recall_score(positive, chosen))
    assert abs(values["roc_auc"] - values["roc_auc_unweighted"]) > 0.01


def tables() -> dict[str, pl.DataFrame]:
    """Four domains with estimates around a pool of .2, one that policy denies and one without an estimate."""
    names = ["a", "b", "c", "d", "denied", "unknown"]
    estimates = pl.DataFrame(
        {
            "target": ["t"] * 5,
            "domain": names[:5],
            "estimate": [0.6, 0.3, 0.1, -0.2, 0.9],
            "stderr": [0.1, 0.1, 0.1, None, 0.1],
            "selection_probability": [1.0, 0.4, 0.1, 0.0, 1.0],
        }
    )
    domains = pl.DataFrame({"domain": names, "tokens": [100] * 6, "policy": ["allow"] * 4 + ["deny", "allow"]})
    mixture = pl.DataFrame(
        {"domain": names, "weight": [0.75, 0.25, 0.0, 0.0, 0.0, 0.0], "cap": [0.75, 0.75, 1, 1, 1, 1.0]}
    )
    return {"mixture": mixture, "estimates": estimates, "domains": domains}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # Phi((estimate - .2) / .1); without a standard error it is certain.
        ("better", [0.99997, 0.84134, 0.15866, 0.0]),
        ("mixture", [1.0, 1 / 3, 0.0, 0.0]),
        ("stability", [1.0, 0.4, 0.1, 0.0]),
    ],
)
def test_labels_are_what_they_say(labels, expected):
    found = domain_labels(**tables(), labels=labels)
    assert found["domain"].to_list() == ["a", "b", "c", "d"]
    assert found["label"].to_list() == pytest.approx(expected, abs=1e-5)


def test_labels_that_an_estimator_does_not_give_are_refused():
    given = tables()
    given["estimates"] = given["estimates"].with_columns(selection_probability=pl.lit(None, pl.Float64))
    with pytest.raises(InputError, match=r"filter\.labels: 'stability' needs selection_probability"):
        domain_labels(**given, labels="stability")
    assert domain_labels(**given, labels="better").height == 4


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "study.yaml"
    path.write_text(
        """\
name: sites
corpus: {source: {kind: jsonl, paths: [pages.jsonl], domain: domain}}
targets: {good: {tasks: [{task: t, metric: m, kind: bpb}]}, flat: {tasks: [{task: t, metric: m, kind: bpb}]}}
mixture: {keep: 0.25}
filter: {dimension: 8, buckets: 5000, min_count: 1, folds: 3, pages_per_domain: 8}
"""
    )
    (path.parent / "pages.jsonl").write_text("{}\n")
    return load_study(str(path))


def site_evidence() -> Evidence:
    """Estimates that know the good sites; of the target `flat` the mixture is the pool's."""
    pages = labelled_pages().with_columns(split=pl.lit("scoring"), bytes=pl.lit(400))
    names = pages["domain"].unique(maintain_order=True)
    good = [number % 2 for number in range(len(names))]
    known = {
        "language": ["en"] * 12,
        "domain_group": [None] * 12,
        "license": ["mit", None] * 6,
        "policy": ["allow"] * 12,
    }
    domains = pl.DataFrame(
        {"domain": names, "tokens": [10_000] * 12, **known}, schema_overrides={"domain_group": pl.String}
    )
    rows = [
        {
            "target": target,
            "domain": name,
            "estimate": 0.5 * label,
            "stderr": 0.05,
            "weight": weight,
            "cap": 1 / 3,
            "decision": decision,
            "selection_probability": float(label),
        }
        for target in ("good", "flat")
        for name, label in zip(names, good, strict=True)
        for weight, decision in [(label / 6, "selected") if target == "good" else (1 / 12, "fallback")]
    ]
    both = pl.DataFrame(rows)
    return Evidence(
        pages=pages.drop("label", "language", "domain_group"),
        domains=domains,
        mixture=both.select("target", "domain", "weight", "cap", "decision"),
        estimates=both.select("target", "domain", "estimate", "stderr", "selection_probability"),
    )


@pytest.fixture(scope="module")
def trained(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("filters")
    return folder, filter_tables(study, site_evidence(), folder)


def test_a_filter_is_a_folder_that_scores_and_whose_card_says_how(trained):
    folder, found = trained
    assert sorted(path.name for path in (folder / "good").iterdir()) == ["card.json", "model.bin"]
    filter = load(folder / "good")
    row = found["page_filters"].filter(pl.col("target") == "good").row(0, named=True)
    assert row["status"] == "trained"
    assert row["pages"] == 12 * 8
    assert filter.card.model_digest == row["model_digest"]
    assert filter.card.licenses == {"mit": 48, "not stated": 48}
    fresh = labelled_pages(seed=5)
    scores, good = filter.score(fresh["text"].to_list()), fresh["label"].to_numpy() == 1
    assert ((scores > 0.5) == good).mean() > 0.98
    probability = filter.probability(fresh["text"].to_list())
    assert probability[good].mean() > 0.9 > 0.1 > probability[~good].mean()
    assert filter.card.threshold == row["threshold"]
    # The budget is a quarter of a pool of which half is good.
    assert 0.2 < filter.keep(fresh["text"].to_list())[good].mean() < 0.9
    assert not filter.keep(fresh["text"].to_list())[~good].any()


def test_where_the_mixture_is_the_pool_there_is_no_filter_and_the_table_says_why(trained):
    folder, found = trained
    row = found["page_filters"].filter(pl.col("target") == "flat").row(0, named=True)
    assert row["status"] == "none"
    assert "pool's own distribution" in row["reason"]
    assert not (folder / "flat").exists()
    assert set(found["filter_metrics"]["target"]) == {"good"}


def test_a_folder_that_is_not_whole_is_refused(trained, tmp_path):
    folder, _ = trained
    with pytest.raises(InputError, match=r"card\.json: no such file"):
        load(tmp_path)
    (tmp_path / "card.json").write_text((folder / "good" / "card.json").read_text())
    with pytest.raises(InputError, match=r"model\.bin: no such file"):
        load(tmp_path)
    other = bytearray((folder / "good" / "model.bin").read_bytes())
    other[-1] ^= 1
    (tmp_path / "model.bin").write_bytes(other)
    with pytest.raises(InputError, match="expected the card's"):
        load(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    for broken, message in (
        ("{", "not the card"),
        (json.dumps(card | {"format": 9}), "format 9"),
        ("[]", "not the card"),
    ):
        (tmp_path / "card.json").write_text(broken)
        with pytest.raises(InputError, match=message):
            load(tmp_path)
