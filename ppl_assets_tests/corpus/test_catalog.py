import math
from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from ppl_assets.corpus import Page, Rejection, catalog
from ppl_assets.corpus.splits import SPLIT_PRIORITY, sampling_order, split_function
from ppl_assets.errors import InputError
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Splits
from ppl_assets_tests.corpus.builders import THREE_SPLITS, any_study, page

DENY_B = [{"action": "deny", "domains": ["b.org"], "reason": "not ours", "owner": "legal", "date": "2026-01-31"}]


def frames(found):
    return found.domains, found.rejections, found.sample, found.duplicates


def rejected(found):
    return {(domain, reason): tuple(rest) for domain, reason, *rest in found.rejections.rows()}


@pytest.mark.parametrize(
    ("extra", "options", "expected"),
    [
        (Rejection(page_id="x", domain="a.org", reason="null", bytes=0), {}, ("a.org", "null", 1, 0, "x")),
        (Rejection(page_id="x", domain="", reason="no_domain", bytes=7), {}, ("", "no_domain", 1, 7, "x")),
        (page("x", "grün"), {"min_page_bytes": 6}, ("a.org", "too_short", 1, 5, "x")),
        (page("x", "grün" * 9), {"max_page_bytes": 44}, ("a.org", "too_long", 1, 45, "x")),
        (page("x", "denied", "b.org"), {"policy": DENY_B}, ("b.org", "denied", 1, 6, "x")),
        (page("good", "good text page"), {}, ("a.org", "duplicate_id", 1, 14, "good")),
        (page("x", "good page text"), {}, ("a.org", "exact_duplicate", 1, 14, "x")),
        (page("x", "lonely", "c.org"), {"min_pages": 2}, ("c.org", "too_few_pages", 1, 6, "x")),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_each_reason_to_leave_a_page_out_is_counted_with_an_example(extra, options, expected):
    pages = [page("good", "good page text"), page("good2", "more page text"), extra]
    found = catalog(pages, any_study(**options))
    assert found.rejections.rows() == [expected]
    assert found.domains["pages"].sum() == 2


def test_of_pages_with_one_id_the_same_one_stays_whatever_the_order():
    pages = [page("x", "text one"), page("x", "text two"), page("x", "text two", "b.org"), page("x", "text one")]
    kept = {catalog(order, any_study()).sample.row(0) for order in (pages, pages[::-1])}
    assert len(kept) == 1
    assert catalog(pages, any_study()).rejections["pages"].sum() == 3


def test_the_longest_and_shortest_allowed_pages_stay():
    found = catalog([page("x", "ab"), page("y", "abcdé")], any_study(min_page_bytes=2, max_page_bytes=6))
    assert found.domains.row(0, named=True)["bytes"] == 8
    assert found.rejections.is_empty()


def test_what_a_domain_holds_is_counted_over_all_pages_and_not_over_the_sample():
    splits = {"scoring": {"share": 1.0, "pages_per_domain": 2}}
    pages = [page(f"p{number}", "é" * number) for number in range(1, 11)]
    found = catalog(pages, any_study(splits=splits, reference_tokenizer={"bytes_per_token": 4}))
    tokens = sum(math.ceil(2 * number / 4) for number in range(1, 11))
    assert found.domains.select("domain", "pages", "bytes", "tokens").rows() == [("a.org", 10, 110, tokens)]
    assert found.sample.height == 2


def test_reference_tokens_are_those_of_the_studys_tokenizer(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(2)  # what a file says about model inputs must not shorten what is counted
    tokenizer.save(str(tmp_path / "words.json"))
    study = any_study(reference_tokenizer={"file": "words.json"}).model_copy(update={"folder": tmp_path})
    pages = [page(f"p{number}", f"w{number} " * (number % 7 + 1)) for number in range(600)]
    found = catalog(pages, study)
    assert found.domains["tokens"].to_list() == [sum(number % 7 + 1 for number in range(600))]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file '.*words.json'"), ("{}", "not a tokenizer.json")]
)
def test_a_tokenizer_file_that_is_missing_or_broken_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "words.json").write_text(content, encoding="utf-8")
    study = any_study(reference_tokenizer={"file": "words.json"}).model_copy(update={"folder": tmp_path})
    with pytest.raises(InputError, match=message):
        catalog([page("x", "text")], study)


def test_denied_domains_keep_their_row_and_give_no_pages():
    pages = [page("x", "text"), page("y", "denied", "b.org", license="MIT"), page("z", "denied", "b.org")]
    found = catalog(pages, any_study(policy=DENY_B))
    denied = found.domains.filter(pl.col("domain") == "b.org").row(0, named=True)
    assert (denied["policy"], denied["policy_reason"]) == ("deny", "not ours (legal, 2026-01-31)")
    assert (denied["pages"], denied["bytes"], denied["tokens"], denied["license"]) == (0, 0, 0, "MIT")
    assert found.sample["domain"].to_list() == ["a.org"]
    assert rejected(found) == {("b.org", "denied"): (2, 12, "y")}


def test_a_rule_about_licences_leaves_out_pages_and_denies_a_domain_only_where_none_is_left():
    rules = [{**DENY_B[0], "domains": ["*"], "licenses": ["GPL*"]}]
    pages = [
        page("1", "text one", license="MIT"),
        page("2", "text two", license="GPL-3.0"),
        page("3", "text three", "b.org", license="GPL-2.0"),
    ]
    found = catalog(pages, any_study(policy=rules))
    assert found.domains.select("domain", "policy", "pages").rows() == [("a.org", "allow", 1), ("b.org", "deny", 0)]
    assert found.domains["policy_reason"].to_list() == [None, "not ours (legal, 2026-01-31)"]


def test_what_most_pages_state_describes_the_domain():
    pages = [
        page(str(n), f"text {n}", language=lang, maker=None)
        for n, lang in enumerate(["de", "en", "en", None, None, None])
    ]
    found = catalog(
        [*pages, page("6", "text 6", "b.org", language="fr"), page("7", "t", "b.org", language="es")], any_study()
    )
    assert found.domains.select("domain", "language", "maker").rows() == [("a.org", "en", None), ("b.org", "es", None)]


def test_a_source_without_a_usable_page_is_an_error_that_counts_the_reasons():
    short = [page(f"p{number}", "x") for number in range(3)]
    null = Rejection(page_id="x", domain="a.org", reason="null", bytes=0)
    with pytest.raises(InputError, match=r"study 'tiny', corpus.source: no usable page; found 1 null, 3 too_short"):
        catalog([*short, null], any_study(min_page_bytes=5))
    with pytest.raises(InputError, match="found nothing at all"):
        catalog([], any_study())


def test_pages_of_one_unit_fall_into_one_split():
    pages = [
        page(f"{kind}:{n}", f"{kind} text {n}", f"p/{kind}", unit=str(n))
        for n in range(200)
        for kind in ("code", "prose")
    ]
    splits = {name: {**split, "pages_per_domain": 200} for name, split in THREE_SPLITS.items()}
    sample = catalog(pages, any_study(splits=splits)).sample
    by_unit = {}
    for page_id, split in sample.select("page_id", "split").rows():
        by_unit.setdefault(page_id.split(":")[1], set()).add(split)
    assert sample.height == 400
    assert all(len(splits) == 1 for splits in by_unit.values())
    assert set().union(*by_unit.values()) == set(SPLIT_PRIORITY)


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (0.0, 0.9, 0.1), (0.1, 0.0, 0.9), (0.0, 1.0, 0.0)])
def test_splits_get_their_shares_and_none_where_it_is_zero(shares):
    names = ("training", "scoring", "benchmark")
    splits = Splits.model_validate(
        {name: {"share": share, "pages_per_domain": 1} for name, share in zip(names, shares, strict=True)}
    )
    n_pages = 20_000
    split = split_function(splits, seed=3)
    counts = Counter(split(page(f"page {number}", "text")) for number in range(n_pages))
    for name, share in zip(names, shares, strict=True):
        # Binomial: five standard deviations, exceeded with a chance below 1e-6; exact where the share is 0 or 1.
        assert abs(counts[name] - share * n_pages) <= 5 * math.sqrt(n_pages * share * (1 - share))


def test_another_seed_draws_other_pages_and_other_splits():
    pages = [page(f"p{number}", f"text {number}") for number in range(300)]
    first, second = (catalog(pages, any_study(splits=THREE_SPLITS, seed=seed)).sample for seed in (0, 1))
    assert set(first["page_id"]) != set(second["page_id"])
    both = first.join(second, on="page_id")
    assert (both["split"] != both["split_right"]).any() or both.height < first.height


PAGES = st.lists(
    st.builds(
        page,
        page_id=st.integers(0, 30).map("p{}".format),
        text=st.sampled_from(
            ["a", "text one", "text two", *(f"text number {number}" for number in range(12)), "x" * 50]
        ),
        domain=st.sampled_from(["a.org", "b.org", "c.org"]),
        license=st.sampled_from([None, "MIT", "GPL"]),
    )
    | st.builds(
        Rejection,
        page_id=st.integers(0, 30).map("r{}".format),
        domain=st.sampled_from(["a.org", ""]),
        reason=st.sampled_from(["null", "empty"]),
        bytes=st.integers(0, 3),
    ),
    min_size=1,
    max_size=60,
)
OPTIONS = {
    "splits": THREE_SPLITS,
    "min_page_bytes": 2,
    "max_page_bytes": 40,
    "min_pages": 2,
    "policy": [{**DENY_B[0], "licenses": ["GPL"]}],
}


def usable_or_none(pages, study):
    try:
        return catalog(pages, study)
    except InputError:
        return None


@given(pages=PAGES, data=st.data())
def test_the_order_of_the_source_changes_nothing(pages, data):
    study = any_study(**OPTIONS)
    one, other = usable_or_none(pages, study), usable_or_none(data.draw(st.permutations(pages)), study)
    assert (one is None) == (other is None)
    if one and other:
        assert all(a.equals(b) for a, b in zip(frames(one), frames(other), strict=True))


@given(pages=PAGES)
def test_every_page_is_usable_or_left_out_once_with_all_its_bytes(pages):
    found = usable_or_none(pages, any_study(**OPTIONS))
    if found:
        total = sum(page.bytes if isinstance(page, Rejection) else len(page.text.encode()) for page in pages)
        assert found.domains["pages"].sum() + found.rejections["pages"].sum() == len(pages)
        assert found.domains["bytes"].sum() + found.rejections["bytes"].sum() == total


@given(pages=PAGES)
def test_the_tables_are_as_declared(pages):
    found = usable_or_none(pages, any_study(**OPTIONS))
    if found:
        for name, frame in (
            ("domains", found.domains),
            ("page_rejections", found.rejections),
            ("page_sample", found.sample),
        ):
            assert frame.schema == TABLES[name].polars_schema
            assert frame.select(TABLES[name].keys).is_unique().all()
            required = [column.name for column in TABLES[name].columns if not column.nullable]
            assert frame.select(required).null_count().sum_horizontal().sum() == 0


@given(numbers=st.sets(st.integers(0, 10_000), min_size=1, max_size=80), seed=st.integers(0, 5))
def test_the_sample_is_the_pages_with_the_smallest_hashes_in_each_domain_and_split(numbers, seed):
    pages = [page(f"p{number}", f"text {number}", "ab"[number % 2] + ".org") for number in numbers]
    study = any_study(splits=THREE_SPLITS, seed=seed)
    sample = usable_or_none(pages, study)
    split = split_function(study.corpus.splits, seed)
    expected = set()
    for domain in ("a.org", "b.org"):
        held = [one for one in pages if one.domain == domain]
        if not any(split(one) == "scoring" for one in held):
            continue
        for name, options in THREE_SPLITS.items():
            inside = sorted((sampling_order(one.page_id, seed), one.page_id) for one in held if split(one) == name)
            expected |= {(page_id, domain, name) for _, page_id in inside[: options["pages_per_domain"]]}
    found = set() if sample is None else set(sample.sample.select("page_id", "domain", "split").rows())
    assert found == expected


def test_exact_duplicates_are_counted_by_the_splits_they_span():
    pages = [page(f"p{number}", f"text {number % 20}") for number in range(100)]
    study = any_study(splits=THREE_SPLITS)
    split = split_function(study.corpus.splits, 0)
    expected = Counter()
    for text in range(20):
        splits = sorted((split(one) for one in pages if one.text == f"text {text}"), key=SPLIT_PRIORITY.index)
        expected.update((splits[0], name) for name in splits[1:])
    found = catalog(pages, study)
    assert {(kept, dropped): count for kept, dropped, count in found.duplicates.rows()} == expected
    assert len(expected) > 2
    assert rejected(found)["a.org", "exact_duplicate"][0] == 80


def test_progress_counts_every_page_and_ends_with_the_total():
    reports = []
    catalog([page(f"p{number}", f"text {number}") for number in range(600)], any_study(), progress=reports.append)
    assert [(report.done, report.total) for report in reports] == [(256, None), (512, None), (600, 600)]


def test_pages_of_other_domains_do_not_change_a_domains_sample():
    ours = [page(f"p{number}", f"text {number}") for number in range(50)]
    others = [Page(page_id=f"q{number}", domain="b.org", text=f"other {number}") for number in range(50)]
    study = any_study(splits=THREE_SPLITS)
    alone, together = catalog(ours, study), catalog([*others, *ours], study)
    assert together.sample.filter(pl.col("domain") == "a.org").equals(alone.sample)
