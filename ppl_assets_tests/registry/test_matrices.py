"""Files of scores and losses become rows, or an error that says where and what."""

import csv
from ast import literal_eval
from pathlib import Path

import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.names import is_slug
from ppl_assets.registry.matrices import read_bpb, read_scores, slug_of, split_revision
from ppl_assets.schema import TABLES

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "perplexity_correlations"
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published matrices are not on this machine")

SCORES = "slug,task,metric,value,stderr,samples\na,piqa,acc,0.5,0.01,100\nb,piqa,acc,0.75,,\n"
BPB = "model,domain,bpb,nll,tokens,bytes,family\norg/A-1,x.org,0.5,34.657,20,100,one\norg/A-1,y.org,1.5,,,,one\n"
WIDE = "benchmark,\"('f', 'org/A-1')\",\"('f', 'org/A-1_step20')\",\"('g', 'B')\"\npiqa,0.1,0.2,0.3\nsciq,0.4,0.5,0.6\n"


def write(folder: Path, text: str | bytes, name: str = "file.csv") -> Path:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / name


def test_long_scores_are_read_as_they_stand(tmp_path: Path) -> None:
    rows = read_scores(write(tmp_path, SCORES))
    assert rows.schema == TABLES["imported_scores"].polars_schema
    assert rows.rows() == [
        ("a", "a", None, None, "piqa", "acc", 0.5, 0.01, 100),
        ("b", "b", None, None, "piqa", "acc", 0.75, None, None),
    ]


def test_long_losses_take_slug_source_and_family_from_the_model(tmp_path: Path) -> None:
    rows = read_bpb(write(tmp_path, BPB))
    assert rows.schema == TABLES["imported_bpb"].polars_schema
    assert rows.rows() == [
        ("org-a-1", "one", "org/A-1", None, "x.org", 34.657, 20, 100, 0.5, None),
        ("org-a-1", "one", "org/A-1", None, "y.org", None, None, None, 1.5, None),
    ]
    without_family = read_bpb(write(tmp_path, "model,domain,bpb\nOrg/A-1_step7,x,1\nmine,x,2\n"))
    assert without_family.select("slug", "family", "source", "revision").rows() == [
        ("org-a-1_step7", "org", "Org/A-1", "step7"),
        ("mine", "mine", None, None),
    ]


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    frame = pl.DataFrame({"slug": ["a", "b"], "domain": ["x", "x"], "bpb": [0.5, 2], "tokens": [None, 7]})
    frame.write_parquet(tmp_path / "file.parquet")
    frame.write_csv(tmp_path / "file.csv")
    rows = read_bpb(tmp_path / "file.parquet")
    assert rows.equals(read_bpb(tmp_path / "file.csv"))
    assert rows.select("slug", "bpb", "tokens").rows() == [("a", 0.5, None), ("b", 2.0, 7)]


def test_a_wide_file_has_a_model_per_column(tmp_path: Path) -> None:
    rows = read_scores(write(tmp_path, WIDE), {"piqa": "error", "absent": "acc"})
    assert rows.select("slug", "family", "source", "revision", "task", "metric", "value").rows() == [
        ("org-a-1", "f", "org/A-1", None, "piqa", "error", 0.1),
        ("org-a-1", "f", "org/A-1", None, "sciq", "value", 0.4),
        ("org-a-1_step20", "f", "org/A-1", "step20", "piqa", "error", 0.2),
        ("org-a-1_step20", "f", "org/A-1", "step20", "sciq", "value", 0.5),
        ("b", "g", "B", None, "piqa", "error", 0.3),
        ("b", "g", "B", None, "sciq", "value", 0.6),
    ]
    assert read_bpb(write(tmp_path, WIDE)).select("domain", "bpb").rows()[:2] == [("piqa", 0.1), ("sciq", 0.4)]


def test_one_model_under_two_families_gets_two_slugs_and_one_source(tmp_path: Path) -> None:
    rows = read_scores(write(tmp_path, "task,\"('a', 'O/M')\",\"('b', 'O/M')\"\nt,1,2\n"))
    assert rows.select("slug", "family", "source", "value").rows() == [
        ("o-m-a", "a", "O/M", 1.0),
        ("o-m-b", "b", "O/M", 2.0),
    ]


@needs_published
@pytest.mark.parametrize("name", ["error.csv", "bpb_by_text.csv"])
def test_the_published_matrices_are_read_whole(name: str) -> None:
    with (PUBLISHED / name).open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    rows = (read_scores if name == "error.csv" else read_bpb)(PUBLISHED / name)
    label, value = ("task", "value") if name == "error.csv" else ("domain", "bpb")
    assert rows.height == 90 * len(lines)
    assert rows["slug"].n_unique() == 90
    assert all(is_slug(slug) for slug in rows["slug"].unique())
    # LLM360/Amber stands under two families; all other sources and revisions are distinct.
    assert rows.select("source", "revision").unique().height == 89
    keyed = {
        (family, source, revision, name): number
        for family, source, revision, name, number in rows.select(
            "family", "source", "revision", label, value
        ).iter_rows()
    }
    for column, title in enumerate(header):
        if not title.startswith("("):
            continue
        family, repository = literal_eval(title)
        source, _, step = repository.partition("_step") if "deduped_step" in repository else (repository, "", "")
        for line in lines:
            assert keyed[family, source, f"step{step}" if step else None, line[0]] == float(line[column])


@needs_published
def test_both_published_matrices_name_the_same_models() -> None:
    columns = ("slug", "family", "source", "revision")
    scores, losses = read_scores(PUBLISHED / "error.csv"), read_bpb(PUBLISHED / "bpb_by_text.csv")
    assert set(scores.select(columns).iter_rows()) == set(losses.select(columns).iter_rows())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EleutherAI/pythia-6.9b-deduped_step100000", ("EleutherAI/pythia-6.9b-deduped", "step100000")),
        ("openlm-research/open_llama_3b_v2", ("openlm-research/open_llama_3b_v2", None)),
        ("TencentARC/Mistral_Pro_8B_v0.1", ("TencentARC/Mistral_Pro_8B_v0.1", None)),
        ("microsoft/phi-1_5", ("microsoft/phi-1_5", None)),
        ("a/b_" + "0f" * 20, ("a/b", "0f" * 20)),
        ("plain_step5", ("plain_step5", None)),
    ],
)
def test_a_revision_is_a_step_or_a_commit_and_nothing_else(name: str, expected: tuple[str, str | None]) -> None:
    assert split_revision(name) == expected


def test_slugs_are_valid_whatever_the_name() -> None:
    assert slug_of("EleutherAI/pythia-6.9b") == "eleutherai-pythia-6-9b"
    assert slug_of("--Ünï/x y") == "n--x-y"
    assert is_slug(slug_of("a" * 300))


BAD_SCORES = [
    ("slug,task,metric\na,t,acc\n", "column 'value' is missing; found"),
    ("name,task,metric,value\na,t,acc,1\n", "column 'slug' or 'model' is missing; found"),
    ("slug,task,metric,value\na,t,acc,1\na,t,acc,2\n", "model 'a', task 't', metric 'acc' stands more than once"),
    ("slug,task,metric,value\na,t,acc,x\n", "row 1, column 'value': found 'x', expected a number"),
    ("slug,task,metric,value\na,t,acc,1\nb,t,acc,\n", "row 2, column 'value': found '', expected a number"),
    ("slug,task,metric,value\na,t,acc,nan\n", "model 'a', task 't', metric 'acc': found value nan, expected a finite"),
    ("slug,task,metric,value\na,t,acc,inf\n", "model 'a', task 't', metric 'acc': found value inf, expected a finite"),
    (
        "slug,task,metric,value,stderr\na,t,acc,1,inf\n",
        "row 1, column 'stderr': found inf, expected a finite",
    ),
    (
        "slug,task,metric,value,stderr\na,t,acc,1,-0.1\n",
        "column 'stderr': found -0.1, expected a finite number of",
    ),
    ("slug,task,metric,value,samples\na,t,acc,1,-5\n", "'samples': found -5.0, expected a whole number of at least 1"),
    ("slug,task,metric,value\nA/b,t,acc,1\n", "slug 'A/b' is not valid"),
    ("slug,task,metric,value\n,t,acc,1\n", "row 1: column 'slug' is empty"),
    ("slug,task,metric,value\na, ,acc,1\n", "row 1: column 'task' is empty"),
    ("slug,task,metric,value,family\na,t,acc,1,f\na,u,acc,1,g\n", "model with one family 'a' stands in rows [1, 2]"),
    ("model,task,metric,value\na.b,t,acc,1\na-b,t,acc,1\n", "models ['a.b', 'a-b'] would get the same slug 'a-b'"),
    ("slug,task,metric,value\na,t,acc\n", "line 2: found 3 fields, expected 4"),
    ('slug,task,metric,value\na,t,"acc,1\n', "not valid CSV"),
    ("slug,slug,task,metric,value\na,a,t,acc,1\n", "column 'slug' stands 2 times, expected once"),
    ("slug,task,metric,value\n", "found no rows"),
    ("", "found no rows"),
    (b"slug,task,metric,value\na,t,acc,1\nb\xff,t,acc,1\n", "line 3: byte 34 is not UTF-8"),
    ("task,\"('f', 'm')\",\"('f', 'm')\"\nt,1,2\n", "column \"('f', 'm')\" stands 2 times, expected once"),
    ("task,\"('f', 'm')\",\"('f',  'm')\"\nt,1,2\n", "are one model 'm-f', expected each model once"),
    ("task,\"('f', 'm')\"\nt,1\nt,2\n", "task 't' stands in rows [1, 2], expected once"),
    ("task,\"('f', 'm')\"\nt,1\nu,\n", "row 2, column \"('f', 'm')\": found '', expected a number"),
    ("task,\"('f', 'm')\"\nt,nan\n", "model 'm', task 't', metric 'value': found value nan"),
    ("\"('f', 'm')\"\n1\n", "found 0 columns whose header is no ('family', 'repo'), expected one with the tasks"),
    ("task,note,\"('f', 'm')\"\nt,x,1\n", "found 2 columns whose header is no ('family', 'repo')"),
]


@pytest.mark.parametrize(("text", "message"), BAD_SCORES, ids=[message[:40] for _, message in BAD_SCORES])
def test_a_bad_score_file_is_refused_with_place_found_and_expected(tmp_path: Path, text, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as error:
        read_scores(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "slug,domain,bpb\na,x,-0.1\n",
            "model 'a', domain 'x': found bpb -0.1, expected a finite number of at least 0",
        ),
        ("slug,domain,bpb\na,x,1\na,x,1\n", "model 'a', domain 'x' stands more than once"),
        ("slug,domain,bpb,tokens\na,x,1,many\n", "row 1, column 'tokens': found 'many', expected a number"),
        ("slug,domain,bpb,bytes\na,x,1,2.5\n", "row 1, column 'bytes': found 2.5, expected a whole number"),
        ("slug,domain,bpb,nll\na,x,1,nan\n", "row 1, column 'nll': found nan, expected a finite number of at least 0"),
        ("slug,domain,bpb,nll\na,x,1,-1\n", "column 'nll': found -1.0, expected a finite number of at least 0"),
        ("slug,domain,bpb,tokens\na,x,1,-5\n", "column 'tokens': found -5.0, expected a whole number of at least 1"),
        ("slug,domain,bpb,tokens\na,x,1,nan\n", "column 'tokens': found nan, expected a whole number"),
        ("slug,domain,bpb,tokens\na,x,1,1e300\n", "column 'tokens': found 1e+300, expected a whole number"),
        ("slug,domain,bpb,bytes\na,x,1,0\n", "column 'bytes': found 0.0, expected a whole number of at least 1"),
        ("id,\"('f', 'm')\"\nx,1\nx,2\n", "domain 'x' stands in rows [1, 2], expected once"),
    ],
)
def test_a_bad_loss_file_is_refused_with_place_found_and_expected(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_bpb(write(tmp_path, text))
    assert message in str(error.value)


def test_a_missing_truncated_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.csv: no such file"):
        read_scores(tmp_path / "absent.csv")
    with pytest.raises(InputError, match=r"found a file of type '.xlsx', expected .csv or .parquet"):
        read_scores(write(tmp_path, "x", "file.xlsx"))
    pl.DataFrame({"slug": ["a"] * 100, "domain": [f"{i}" for i in range(100)], "bpb": [1.0] * 100}).write_parquet(
        tmp_path / "whole.parquet"
    )
    half = write(tmp_path, (tmp_path / "whole.parquet").read_bytes()[:-50], "half.parquet")
    with pytest.raises(InputError, match=r"half.parquet: not a readable Parquet file .* truncated"):
        read_bpb(half)
    text = write(tmp_path, "", "text.parquet")
    pl.DataFrame({"slug": ["a"], "domain": ["x"], "bpb": [True]}).write_parquet(text)
    with pytest.raises(InputError, match=r"column 'bpb' holds Boolean, expected numbers"):
        read_bpb(text)
    pl.DataFrame({"slug": [1], "domain": ["x"], "bpb": [1.0]}).write_parquet(text)
    with pytest.raises(InputError, match=r"column 'slug' holds Int64, expected text"):
        read_bpb(text)
