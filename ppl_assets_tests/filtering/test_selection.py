"""Pages of a source with every trap are selected by every arm: within the budget, each text once, none that is set
aside, denied or too short."""

import json
from collections import Counter
from dataclasses import replace

import polars as pl
import pytest

from ppl_assets.corpus.splits import sampling_order
from ppl_assets.errors import InputError
from ppl_assets.filtering import load
from ppl_assets.filtering.selected_texts import selected_texts, write_texts
from ppl_assets.study.schema import Bound, ShiftBounds
from ppl_assets_tests.filtering.selections import ARMS, World, edit_pages, make_world, write_source, write_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The world, its rows as they stand in the files, and the rows of ``selections``."""
    folder = tmp_path_factory.mktemp("sites")
    rows = write_source(folder)
    world = make_world(folder, write_study(folder))
    how = world.scoring()
    return world, rows, world.select(world.score(how), how)["selections"]


def texts_of(world: World, arm: str) -> list[tuple[str, str, str]]:
    return list(selected_texts(world.study, world.lake, world.folder / "digests", "good", arm))


def usable(world: World, rows: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    """By hand: the rows that any arm may select, by id."""
    splits = {split: {row["page_id"] for row in world.lake.read("pages", split).to_dicts()} for split in ("scoring",)}
    scored = world.lake.read_partitions("page_scores", world.lake.partitions("page_scores"))
    training = set(scored.filter(pl.col("split") == "training")["page_id"])
    others = {row["text"] for row in rows if row["id"] not in training and row["license"] == "open"}
    assert splits["scoring"].isdisjoint(training)
    first: dict[str, dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: (sampling_order(row["id"], 0), row["id"])):
        if row["id"] in training and row["text"] not in others:
            first.setdefault(row["text"], row)
    near = set(world.tables.near_duplicates["page_id"])
    return {row["id"]: row for row in first.values() if row["id"] not in near}


def test_every_arm_fills_the_same_budget_to_one_page(finished):
    world, rows, selections = finished
    selected = world.selected()
    pool = usable(world, rows)
    tokens = {name: -(-len(row["text"].encode()) // 4) for name, row in pool.items()}
    budget = round(0.25 * sum(tokens.values()))
    assert selections["arm"].to_list() == list(ARMS)
    assert set(selections["budget"]) == {budget}
    assert set(selections["pool_pages"]) == {len(pool)}
    for row in selections.rows(named=True):
        own = selected.filter(pl.col("arm") == row["arm"])
        assert row["status"] == "selected"
        assert budget <= own["tokens"].sum() < budget + max(tokens.values())
        assert (row["tokens"], row["pages"]) == (own["tokens"].sum(), own.height)
        assert own["page_id"].n_unique() == own.height
        assert {name: tokens[name] for name in own["page_id"]} == dict(own.select("page_id", "tokens").iter_rows())


def test_ours_takes_the_best_pages_that_a_loop_over_the_files_finds(finished):
    world, rows, selections = finished
    pool = list(usable(world, rows).values())
    scores = load(world.folder / "filters" / "good").score([row["text"] for row in pool]).tolist()
    ranked = sorted(zip(scores, pool, strict=True), key=lambda pair: (-pair[0], sampling_order(pair[1]["id"], 0)))
    expected, total = {}, 0
    for score, row in ranked:
        if total >= selections["budget"][0]:
            break
        expected[row["id"]] = score
        total += -(-len(row["text"].encode()) // 4)
    own = world.selected().filter(pl.col("arm") == "ours")
    assert dict(own.select("page_id", "score").iter_rows()) == expected
    assert min(expected.values()) == selections["threshold"][0]


def test_arms_that_know_the_good_sites_choose_them_and_those_that_do_not_do_not(finished):
    world, _, _ = finished
    number = pl.col("domain").str.extract(r"(\d+)").cast(pl.Int64)
    good = dict(world.selected().group_by("arm").agg((number % 2 == 1).mean()).iter_rows())
    assert min(good["ours"], good["ours_domains"], good["quality_classifier"]) > 0.95
    assert good["dsir"] > 0.7
    assert abs(good["uniform"] - 0.5) < 0.15
    loss = world.selected().filter(pl.col("arm") == "mean_loss")["domain"].unique().sort()
    # Names are sorted as text in the losses: site0, site1, site10 and site11 have the lowest.
    assert loss.to_list() == ["site0.org", "site1.org", "site10.org", "site11.org"]


def test_the_text_of_a_selection_is_that_of_the_source_each_once(finished):
    world, rows, _ = finished
    text = {row["id"]: (row["site"], row["text"]) for row in rows}
    for arm in ARMS:
        found = texts_of(world, arm)
        assert {name: (site, content) for name, site, content in found} == {name: text[name] for name, _, _ in found}
        assert {name for name, _, _ in found} == set(world.selected().filter(pl.col("arm") == arm)["page_id"])
        assert max(Counter(content for _, _, content in found).values()) == 1


def test_no_arm_takes_what_is_set_aside_denied_or_too_short(finished):
    world, rows, _ = finished
    aside = {page for split in ("scoring", "benchmark") for page in world.lake.read("pages", split)["text"]}
    of = {row["id"]: row for row in rows}
    for name in world.selected()["page_id"]:
        assert of[name]["license"] == "open"
        assert of[name]["text"] not in aside
        assert len(of[name]["text"]) >= 100
    english = world.selected().filter(pl.col("arm") == "language")["page_id"]
    assert {of[name]["language"] for name in english} == {"en"}


def test_an_arm_that_selects_nothing_is_said_so(finished):
    world, _, _ = finished
    with pytest.raises(InputError, match="arm 'best' selects no page for target 'good'"):
        texts_of(world, "best")


def test_a_source_that_changed_is_told_and_not_trained_on(tmp_path):
    write_source(tmp_path)
    world = make_world(tmp_path, write_study(tmp_path, arms=("uniform",)))
    how = world.scoring()
    world.select(world.score(how), how)
    part = tmp_path / "part-1.jsonl"
    lines = [json.loads(line) for line in part.read_text().splitlines()]
    part.write_text("".join(json.dumps(line | {"text": line["text"].upper()}) + "\n" for line in lines))
    with pytest.raises(InputError, match="is gone or has another text"):
        texts_of(world, "uniform")


def test_an_edited_text_of_the_same_length_is_another_selection(tmp_path):
    write_source(tmp_path)
    world = make_world(tmp_path, write_study(tmp_path, arms=("uniform",)))
    how = world.scoring()
    before = world.select(world.score(how), how)["selections"]
    chosen = world.selected().filter(~pl.col("domain").is_in(["site0.org", "site1.org", "site3.org"]))  # no repeats
    edit_pages(tmp_path, {chosen["page_id"].min()})
    how = world.scoring(fingerprint="of another source")
    after = world.select(world.score(how), how)["selections"]
    assert after.drop("pages_digest").equals(before.drop("pages_digest"))
    assert after["pages_digest"][0] != before["pages_digest"][0]


def test_with_text_the_selection_lies_in_files_that_a_trainer_reads(finished, tmp_path):
    world, rows, _ = finished
    write_texts(world.study, world.lake, world.folder / "digests", tmp_path / "pages")
    text = {row["id"]: row["text"] for row in rows}
    for arm in ARMS:
        found = pl.read_parquet(tmp_path / "pages" / "good" / arm / "*.parquet")
        assert found.columns == ["page_id", "domain", "score", "tokens", "text"]
        own = world.selected().filter(pl.col("arm") == arm).select(found.columns[:4]).sort("page_id")
        assert found.select(found.columns[:4]).sort("page_id").equals(own)
        assert found["text"].to_list() == [text[name] for name in found["page_id"]]


def test_beyond_a_bound_a_selection_is_withheld_and_its_row_says_why(finished):
    world, _, _ = finished
    bounds = ShiftBounds(language=Bound(block=0.3))
    settings = world.study.filter.model_copy(update={"bounds": bounds, "arms": ("uniform", "language")})
    strict = replace(world, study=world.study.model_copy(update={"filter": settings}))
    before = {shard: world.lake.read("selected_pages", shard) for shard in world.lake.partitions("selected_pages")}
    try:
        found = strict.select(world.lake.partitions("page_scores"), world.scoring())
        statuses = dict(found["selections"].select("arm", "status").iter_rows())
        assert statuses == {"uniform": "selected", "language": "blocked"}
        reason = found["selections"].filter(pl.col("arm") == "language")["reason"][0]
        assert "language shifts by +0.5" in reason
        assert set(world.selected()["arm"]) == {"uniform"}
    finally:
        for shard, own in before.items():
            world.lake.write("selected_pages", own, partition=shard, fingerprint="first")


@pytest.mark.parametrize("soft", [True, False])
def test_without_a_filter_ours_is_never_the_pool_in_disguise(tmp_path, soft):
    """The mixture takes a sixth of what each good site may give: no label reaches a half."""
    write_source(tmp_path)
    change = {"filter:\n": f"filter:\n  labels: mixture\n  soft: {str(soft).lower()}\n"}
    world = make_world(tmp_path, write_study(tmp_path, arms=("ours", "uniform"), **change))
    how = world.scoring()
    ours, uniform = world.select(world.score(how), how)["selections"].rows(named=True)
    assert ours["pages_digest"] != uniform["pages_digest"]
    selected = world.selected().filter(pl.col("arm") == "ours")
    if soft:
        assert world.filters["status"].to_list() == ["trained"]
        assert {int(name.removeprefix("site").removesuffix(".org")) % 2 for name in selected["domain"]} == {1}
        return
    assert world.filters["status"].to_list() == ["none"]
    assert world.filters["reason"].to_list() == ["every domain that pages were sampled of has the label 0"]
    assert (ours["status"], ours["pages"], selected.height) == ("short", 0, 0)
    assert ours["reason"] == "there is no page filter; table page_filters says why"


def test_where_the_mixture_is_the_pool_ours_is_the_pool_at_random(tmp_path):
    write_source(tmp_path)
    world = make_world(tmp_path, write_study(tmp_path, arms=("uniform",)))
    fallback = world.tables.mixture.with_columns(decision=pl.lit("fallback"))
    study = write_study(tmp_path, arms=("ours", "uniform"))
    world = replace(world, study=study, tables=replace(world.tables, mixture=fallback))
    how = world.scoring()
    ours, uniform = world.select(world.score(how), how)["selections"].rows(named=True)
    assert ours["status"] == "selected"
    assert ours["pages_digest"] == uniform["pages_digest"]


def test_a_cap_below_what_a_domain_holds_is_kept(tmp_path):
    write_source(tmp_path)
    change = {"mixture: {keep: 0.25}": 'mixture: {keep: 0.5, max_epochs_by_domain: {"site[0-4].org": 0.2}}'}
    world = make_world(tmp_path, write_study(tmp_path, arms=("mean_loss",), **change))
    how = world.scoring()
    row = world.select(world.score(how), how)["selections"].row(0, named=True)
    assert row["tokens"] >= row["budget"]
    tokens = dict(world.selected().group_by("domain").agg(pl.sum("tokens")).iter_rows())
    held = dict(world.tables.domains.select("domain", "tokens").iter_rows())
    for number in range(5):
        assert 0 < tokens.get(f"site{number}.org", 1) <= 0.2 * held[f"site{number}.org"]
    assert max(tokens[name] / held[name] for name in tokens if name not in [f"site{n}.org" for n in range(5)]) > 0.5
