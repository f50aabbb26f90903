import gzip
import json
from pathlib import Path

import datasets
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ppl_assets.corpus import Page, Rejection, read_pages
from ppl_assets.corpus.rows import registered_domain
from ppl_assets.errors import InputError
from ppl_assets_tests.corpus.builders import jsonl, make_study, write_jsonl

ROWS = [
    {"id": "one", "site": "a.org", "text": "First text.", "lang": "en", "terms": "MIT", "who": "Ann", "kind": "news"},
    {"id": "two", "site": "b.org", "text": "Zweiter Text: grün 🌱\r\nmit Zeilen.\n", "lang": "de"},
    {"id": 3, "site": "a.org", "text": "Third\u2028text\x0c.", "lang": None},
]
COLUMNS = {"id": "id", "language": "lang", "license": "terms", "maker": "who", "group": "kind"}
PAGES = [
    Page(
        page_id="one",
        domain="a.org",
        text="First text.",
        language="en",
        license="MIT",
        maker="Ann",
        domain_group="news",
    ),
    Page(page_id="two", domain="b.org", text="Zweiter Text: grün 🌱\r\nmit Zeilen.\n", language="de"),
    Page(page_id="3", domain="a.org", text="Third\u2028text\x0c."),
]


def parquet(*paths, **columns):
    return {**jsonl(*paths, **columns), "kind": "parquet"}


@pytest.mark.parametrize("name", ["pages.jsonl", "pages.jsonl.gz", "pages.jsonl.zst"])
def test_every_column_of_a_jsonl_file_arrives_whatever_its_compression(tmp_path, name):
    write_jsonl(tmp_path / name, ROWS)
    assert list(read_pages(make_study(tmp_path, jsonl(name, **COLUMNS)))) == PAGES


@pytest.mark.parametrize("dictionary", [False, True])
def test_every_column_of_a_parquet_file_arrives(tmp_path, dictionary):
    rows = [{**row, "id": str(row["id"])} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pages.parquet", use_dictionary=dictionary, row_group_size=2)
    assert list(read_pages(make_study(tmp_path, parquet("pages.parquet", **COLUMNS)))) == PAGES


def test_keys_of_structs_and_of_json_in_a_parquet_column_are_read_as_the_study_names_them(tmp_path):
    rows = [
        {"meta": {"text": f"text {row}", "from": {"site": "a.org", "number": row}}, "more": json.dumps({"lang": "en"})}
        for row in range(3)
    ]
    rows.append({"meta": None, "more": None})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    named = {"text": "meta.text", "domain": "meta.from.site", "id": "meta.from.number", "language": "more.lang"}
    *pages, rejection = read_pages(make_study(tmp_path, parquet("x.parquet", **named)))
    assert [(page.page_id, page.domain, page.text, page.language) for page in pages] == [
        (str(row), "a.org", f"text {row}", "en") for row in range(3)
    ]
    assert rejection.reason == "no_domain"


def test_parquet_that_polars_wrote_is_read_in_batches_without_losing_a_row(tmp_path):
    frame = pl.DataFrame({"text": [f"text {row}" for row in range(2500)], "site": ["a.org"] * 2500})
    frame.write_parquet(tmp_path / "many.parquet", row_group_size=700)
    pages = list(read_pages(make_study(tmp_path, parquet("many.parquet"))))
    assert [page.text for page in pages] == frame["text"].to_list()
    assert [page.page_id for page in pages] == [f"many.parquet:{row}" for row in range(1, 2501)]


def test_a_local_folder_of_a_dataset_streams_the_same_pages(tmp_path):
    folder = tmp_path / "set"
    write_jsonl(folder / "train.jsonl", [{**row, "id": str(row["id"])} for row in ROWS])
    source = {"kind": "huggingface", "dataset": "set", "revision": "main", "domain": "site", **COLUMNS}
    assert list(read_pages(make_study(tmp_path, source))) == PAGES


def test_a_hub_dataset_is_asked_for_at_its_pinned_revision(tmp_path, monkeypatch):
    asked = {}

    def load_dataset(path, name, **options):
        asked.update(options, path=path, name=name)
        return iter(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = {"kind": "huggingface", "dataset": "maker/set", "revision": "abc123", "subset": "en", "domain": "site"}
    pages = list(read_pages(make_study(tmp_path, source)))
    assert asked == {"path": "maker/set", "name": "en", "revision": "abc123", "split": "train", "streaming": True}
    assert [page.page_id for page in pages] == ["maker/set:1", "maker/set:2", "maker/set:3"]


def test_frames_and_members_that_were_appended_are_all_read(tmp_path):
    halves = [b'{"text": "first", "site": "a.org"}\n{"text": "sec', b'ond", "site": "a.org"}\n']
    (tmp_path / "x.jsonl.zst").write_bytes(b"".join(zstandard.compress(half) for half in halves))
    (tmp_path / "x.jsonl.gz").write_bytes(b"".join(gzip.compress(half) for half in halves))
    for name in ("x.jsonl.zst", "x.jsonl.gz"):
        assert [page.text for page in read_pages(make_study(tmp_path, jsonl(name)))] == ["first", "second"]


def test_files_come_in_order_of_their_names_however_they_are_listed(tmp_path):
    for name in ("b/2.jsonl", "a/10.jsonl", "c.jsonl"):
        write_jsonl(tmp_path / name, [{"text": name, "site": "a.org"}])
    listed = [["c.jsonl", "*/*.jsonl"], ["b/2.jsonl", "**/*.jsonl"], ["./c.jsonl", "a/1?.jsonl", "b/2.jsonl"]]
    found = [[page.page_id for page in read_pages(make_study(tmp_path, jsonl(*paths)))] for paths in listed]
    assert found == [["a/10.jsonl:1", "b/2.jsonl:1", "c.jsonl:1"]] * 3


def test_blank_lines_are_passed_over_and_ids_are_line_numbers(tmp_path):
    (tmp_path / "x.jsonl").write_text('\n{"text": "t", "site": "a"}\n \n{"text": "u", "site": "a"}', encoding="utf-8")
    assert [page.page_id for page in read_pages(make_study(tmp_path, jsonl("x.jsonl")))] == ["x.jsonl:2", "x.jsonl:4"]


@pytest.mark.parametrize(
    ("row", "reason", "n_bytes"),
    [
        ({"site": "a.org"}, "null", 0),
        ({"site": "a.org", "text": None}, "null", 0),
        ({"site": "a.org", "text": ""}, "empty", 0),
        ({"site": "a.org", "text": " \n\u00a0"}, "empty", 4),
        ({"site": "a.org", "text": "half \ud800"}, "not_utf8", 8),
        ({"site": None, "text": "grün"}, "no_domain", 5),
        ({"site": " ", "text": None}, "no_domain", 0),
        ({"text": "text"}, "no_domain", 4),
    ],
)
def test_a_row_without_text_or_domain_is_a_rejection(tmp_path, row, reason, n_bytes):
    write_jsonl(tmp_path / "x.jsonl", [{"text": "good", "site": "a.org"}, row])
    good, rejected = read_pages(make_study(tmp_path, jsonl("x.jsonl")))
    assert good.text == "good"
    domain = "" if reason == "no_domain" else "a.org"
    assert rejected == Rejection(page_id="x.jsonl:2", domain=domain, reason=reason, bytes=n_bytes)


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("https://user@News.BBC.co.uk:8080/a?b#c", "bbc.co.uk"),
        ("http://example.com", "example.com"),
        ("//cdn.example.org/x", "example.org"),
        ("blog.example.de/path", "example.de"),
        ("http://192.168.0.1/index.html", None),
        ("http://[2001:db8::1]/", None),
        ("http://localhost:3000/", None),
        ("http://com/", None),
        ("not a url", None),
    ],
)
def test_a_url_gives_its_registered_domain_or_none(tmp_path, url, domain):
    write_jsonl(tmp_path / "x.jsonl", [{"text": "text", "url": url}])
    (found,) = read_pages(make_study(tmp_path, jsonl("x.jsonl", url="url")))
    assert found.domain == (domain or "")
    assert isinstance(found, Rejection) == (domain is None)


@given(st.text())
def test_no_url_is_too_odd_for_an_answer(url):
    domain = registered_domain(url)
    assert domain is None or (domain == domain.lower() and "." in domain)


def broken_jsonl(tmp_path, content):
    (tmp_path / "x.jsonl").write_bytes(content)
    return jsonl("x.jsonl")


def cut_off(tmp_path, name):
    rows = [{"text": f"{row} {row * 7919}", "site": "a.org"} for row in range(5000)]
    path = write_jsonl(tmp_path / name, rows)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return jsonl(name)


def parquet_of(tmp_path, table):
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    return parquet("x.parquet")


def truncated_parquet(tmp_path):
    source = parquet_of(tmp_path, {"text": ["t"] * 1000, "site": ["a"] * 1000})
    path = tmp_path / "x.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    return source


def corrupted_parquet(tmp_path):
    """The footer is whole, the pages of the text are not."""
    table = pa.table({"text": [f"text {row}" for row in range(20_000)], "site": ["a"] * 20_000})
    path = tmp_path / "x.parquet"
    pq.write_table(table, path, use_dictionary=False, compression="snappy")
    content = bytearray(path.read_bytes())
    content[40:20_000] = b"\xff" * (20_000 - 40)
    path.write_bytes(bytes(content))
    return parquet("x.parquet")


def parquet_not_utf8(tmp_path):
    values = [b"good", b"bad \xff", b"good"]
    text = pa.array(values, pa.binary()).view(pa.string())
    return parquet_of(tmp_path, {"text": text, "site": ["a"] * 3})


GOOD = b'{"text": "t", "site": "a.org"}\n'
BAD_INPUT = {
    "a missing file": (lambda _: jsonl("nosuch.jsonl"), r"no such file '.*nosuch\.jsonl'"),
    "a folder": (lambda folder: jsonl(str(folder)), r"no such file"),
    "a pattern without a match": (lambda _: jsonl("*.jsonl"), r"no file matches the pattern '.*\*\.jsonl'"),
    "a broken line": (lambda f: broken_jsonl(f, GOOD * 2 + b'{"text": '), r"x\.jsonl, line 3: not JSON"),
    "a line that is a list": (lambda f: broken_jsonl(f, GOOD + b"[1]\n"), r"line 2: found list '\[1\]'"),
    "a line of braces": (lambda f: broken_jsonl(f, b'{"a":' * 100_000), r"x\.jsonl, line 1: not JSON"),
    "a huge number": (lambda f: broken_jsonl(f, b'{"a": ' + b"1" * 5000 + b"}"), r"line 1: not JSON"),
    "a line that is not UTF-8": (lambda f: broken_jsonl(f, GOOD + b'{"text": "\xff"}'), r"line 2: byte 10 .*UTF-8"),
    "another encoding": (lambda f: broken_jsonl(f, GOOD.decode().encode("utf-16")), r"line 1: byte 0 .*UTF-8"),
    "a text that is a number": (lambda f: broken_jsonl(f, b'{"text": 5, "site": "a"}'), r"line 1: 'text' is int '5'"),
    "a domain that is a list": (lambda f: broken_jsonl(f, b'{"text": "t", "site": ["a"]}'), r"'site' is list"),
    "a domain that is a truth": (lambda f: broken_jsonl(f, b'{"text": "t", "site": true}'), r"'site' is bool"),
    "half a surrogate pair": (lambda f: broken_jsonl(f, b'{"text": "t", "site": "\\ud800"}'), r"line 1: 'site' holds"),
    "a misspelled column": (lambda f: broken_jsonl(f, b'{"txt": "t", "site": "a"}'), r"no column 'text'.*mean 'txt'"),
    "a cut .gz": (lambda f: cut_off(f, "x.jsonl.gz"), r"x\.jsonl\.gz, after line \d+: cut off"),
    "a cut .zst": (lambda f: cut_off(f, "x.jsonl.zst"), r"x\.jsonl\.zst, after line \d+: cut off"),
    "no .gz at all": (
        lambda f: [broken_jsonl(f, GOOD), (f / "x.jsonl").rename(f / "x.gz")] and jsonl("x.gz"),
        r"x\.gz",
    ),
    "no .zst at all": (
        lambda f: [broken_jsonl(f, GOOD), (f / "x.jsonl").rename(f / "x.zst")] and jsonl("x.zst"),
        r"x\.zst, after line 0: cut off or unreadable",
    ),
    "no Parquet at all": (
        lambda f: {**broken_jsonl(f, GOOD), "kind": "parquet"},
        r"x\.jsonl, .*not a complete Parquet",
    ),
    "a truncated Parquet": (truncated_parquet, r"x\.parquet, after row 0: not a complete Parquet file"),
    "a corrupted Parquet": (corrupted_parquet, r"x\.parquet, after row \d+: not a complete Parquet file"),
    "a Parquet that is not UTF-8": (parquet_not_utf8, r"x\.parquet, row 2: not UTF-8"),
    "a Parquet without the column": (
        lambda f: parquet_of(f, {"test": ["t"], "site": ["a"]}),
        r"'text' \(did you mean 'te",
    ),
    "a Parquet of numbers": (lambda f: parquet_of(f, {"text": [1], "site": ["a"]}), r"column 'text' is int64"),
    "a Parquet struct": (lambda f: parquet_of(f, {"text": [{"a": "t"}], "site": ["a"]}), r"column 'text' is struct"),
    "a Parquet struct without the key": (
        lambda f: parquet_of(f, {"meta": [{"txt": "t"}], "site": ["a"]}) | {"text": "meta.text"},
        r"no column 'text' \(did you mean 'txt'",
    ),
    "a Parquet struct of numbers": (
        lambda f: parquet_of(f, {"meta": [{"text": 1}], "site": ["a"]}) | {"text": "meta.text"},
        r"column 'meta.text' is int64, expected text",
    ),
    "a Parquet of real domains": (lambda f: parquet_of(f, {"text": ["t"], "site": [1.5]}), r"column 'site' is double"),
}


@pytest.mark.parametrize(("source", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_told_with_file_and_place(tmp_path, source, message):
    study = make_study(tmp_path, source(tmp_path))
    with pytest.raises(InputError, match=message):
        list(read_pages(study))


def test_a_column_that_no_row_has_is_found_early_and_one_that_some_rows_have_is_not_missing(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [{"text": "t", "site": "a"}] * 3000)
    with path.open("a", encoding="utf-8") as file:
        file.write("not JSON\n")  # not reached
    with pytest.raises(InputError, match="no column 'lang'; it has 'site', 'text'"):
        list(read_pages(make_study(tmp_path, jsonl("x.jsonl", language="lang"))))
    write_jsonl(tmp_path / "y.jsonl", [{"text": "t", "site": "a"}] * 900 + [{"text": "t", "site": "a", "lang": "en"}])
    pages = list(read_pages(make_study(tmp_path, jsonl("y.jsonl", language="lang"))))
    assert [page.language for page in pages[-2:]] == [None, "en"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"dataset": "set", "text": "body"}, "dataset 'set'.*no column 'body'"),
        ({"dataset": "set", "split": "nosuch"}, "dataset 'set', revision 'main', split 'nosuch'.*cannot be read"),
        ({"dataset": "broken"}, "dataset 'broken'.*cannot be read"),
    ],
)
def test_a_dataset_that_cannot_be_read_is_told_by_name(tmp_path, source, message):
    write_jsonl(tmp_path / "set/train.jsonl", ROWS[:2])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/train.jsonl").write_text('{"text": "t", "site"', encoding="utf-8")
    study = make_study(tmp_path, {"kind": "huggingface", "revision": "main", "domain": "site", **source})
    with pytest.raises(InputError, match=message):
        list(read_pages(study))


def test_a_hub_that_cannot_be_reached_is_bad_input_and_not_a_traceback(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach 'maker/set' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    source = {"kind": "huggingface", "dataset": "maker/set", "revision": "abc123", "domain": "site"}
    with pytest.raises(InputError, match=r"'maker/set', revision 'abc123'.*Couldn't reach"):
        list(read_pages(make_study(tmp_path, source)))


def test_a_study_without_a_corpus_says_so(tmp_path):
    study = make_study(tmp_path, jsonl("x.jsonl")).model_copy(update={"corpus": None})
    with pytest.raises(InputError, match="study 'tiny' has no 'corpus'"):
        read_pages(study)


@given(rows=st.lists(st.fixed_dictionaries({"text": st.text(), "site": st.text(min_size=1)}), min_size=1))
def test_any_text_survives_the_way_through_jsonl(tmp_path_factory, rows):
    folder = Path(tmp_path_factory.mktemp("pages"))
    (folder / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = list(read_pages(make_study(folder, jsonl("x.jsonl"))))
    kept = [row for row in rows if row["text"].strip() and row["site"].strip()]
    assert [(page.text, page.domain) for page in found if isinstance(page, Page)] == [
        (row["text"], row["site"]) for row in kept
    ]
    assert len(found) == len(rows)
