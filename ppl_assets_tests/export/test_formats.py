"""Every format, read back by the library that it is for: the same domains, the same weights."""

import csv
import io
import json
import math
import runpy
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ppl_assets.errors import InputError
from ppl_assets.export import FORMATS, Blend, blend_of, file_name
from ppl_assets.export.formats import _OF_BLEND
from ppl_assets.export.lists import as_page_list
from ppl_assets.schema import TABLES

# What source catalogues really hold, and what they could: slashes, capitals, YAML's and Python's own characters.
WEIGHTS = {
    "example.com": 0.5,
    "asyncio/code": 0.1 + 0.2 - 0.1,
    "Example.com": 1 / 7,
    "quo\"te': {x}\n#é": 1e-05,
    "null": 1e-17,
}
WEIGHTS["1.5"] = 1 - math.fsum(WEIGHTS.values())
TOLERANCE = 1e-9


def mixture_table(weights: dict[str, float] = WEIGHTS) -> pl.DataFrame:
    rows = [
        {
            "target": target,
            "domain": domain,
            "weight": weight,
            "cap": 1.0,
            "estimate": 0.1,
            "tokens": round(weight * 10**6),
            "decision": "selected" if weight else "not selected",
            "reason": "",
            "kind": "target",
            "used": False,
        }
        for target in ("code", "prose")
        for domain, weight in {**weights, "unused.org": 0.0}.items()
    ]
    return pl.DataFrame(rows, schema=TABLES["pretraining_mixture"].polars_schema)


def blend(template: str = "data/{domain}", weights: dict[str, float] = WEIGHTS, max_epochs: float = 1.0) -> Blend:
    return blend_of(
        mixture_table(weights),
        study="mine",
        target="code",
        version="0123abcd",
        seed=3,
        template=template,
        epochs=dict.fromkeys(weights, max_epochs),
    )


def read_by_trainer(name: str, path: Path) -> dict[str, float]:
    """What a trainer's own parser makes of a file, in the folder that the file's paths are relative to."""
    command = [sys.executable, "-m", "ppl_assets_tests.export.trainers", name, str(path)]
    result = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


def by_path(read: dict[str, float]) -> dict[str, float]:
    """Domains for the paths under which a trainer knows them."""
    domains = {share.path: share.domain for share in blend().shares}
    return {domains[path]: weight for path, weight in read.items()}


def read_yaml(path: Path) -> dict[str, float]:
    return yaml.safe_load(path.read_text())["weights"]


def read_json(path: Path) -> dict[str, float]:
    return {row["domain"]: row["weight"] for row in json.loads(path.read_text())["domains"]}


def read_csv(path: Path) -> dict[str, float]:
    return {row["domain"]: float(row["weight"]) for row in csv.DictReader(io.StringIO(path.read_text()))}


def read_domains(path: Path) -> dict[str, float]:
    return dict(pl.read_parquet(path).select("domain", "weight").iter_rows())


def read_nanotron(path: Path) -> dict[str, float]:
    """By the documented schema (`as_nanotron` names it): folders and weights in two lists of one length."""
    (stage,) = yaml.safe_load(path.read_text())["data_stages"]
    assert set(stage) == {"name", "start_training_step", "data"}
    assert set(stage["data"]) == {"dataset", "num_loading_workers", "seed"}
    assert stage["start_training_step"] == 1, "nanotron wants one stage that starts at 1"
    dataset = stage["data"]["dataset"]
    assert set(dataset) == {"dataset_folder", "dataset_weights"}
    return by_path(dict(zip(dataset["dataset_folder"], dataset["dataset_weights"], strict=True)))


def read_huggingface(path: Path) -> dict[str, float]:
    """The file's own `load_mixture`, with the weights that `datasets` was called with."""
    import datasets

    for share in blend().shares:
        folder = path.parent / share.path
        folder.mkdir(parents=True)
        (folder / "rows.jsonl").write_text("".join(f'{{"name": "{share.name}"}}\n' for _ in range(3)))
    called: dict[str, list[float]] = {}
    real = datasets.interleave_datasets

    def noting(parts: list, *, probabilities: list[float], **options: object) -> object:
        called["probabilities"] = probabilities
        return real(parts, probabilities=probabilities, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        patch.setattr(datasets, "interleave_datasets", noting)
        module = runpy.run_path(str(path))
        rows = [row["name"] for _, row in zip(range(200), module["load_mixture"](), strict=False)]
    assert set(rows) >= {"example.com"}
    assert set(rows) <= {share.name for share in blend().shares}
    domains = [domain for domain, _, _ in module["DOMAINS"]]
    return dict(zip(domains, called["probabilities"], strict=True))


READERS: dict[str, Callable[[Path], dict[str, float]]] = {
    "yaml": read_yaml,
    "json": read_json,
    "csv": read_csv,
    "domains": read_domains,
    "nanotron": read_nanotron,
    "huggingface": read_huggingface,
    "megatron": lambda path: by_path(read_by_trainer("megatron", path)),
    "olmo": lambda path: read_by_trainer("olmo", path),
    "mosaicml": lambda path: by_path(read_by_trainer("mosaicml", path)),
    "litgpt": lambda path: read_by_trainer("litgpt", path),
}


def written(name: str, folder: Path, exported: Blend) -> Path:
    content = _OF_BLEND[name](exported)
    path = folder / f"mixture.{'py' if name in ('huggingface', 'litgpt') else 'txt'}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_every_format_has_a_reader():
    assert set(FORMATS) - {"pages"} == set(READERS) == set(_OF_BLEND)


@pytest.mark.parametrize("name", READERS)
def test_a_file_gives_back_the_same_weights(name, tmp_path):
    read = READERS[name](written(name, tmp_path, blend()))
    assert read.keys() == WEIGHTS.keys()
    assert read == pytest.approx(WEIGHTS, abs=TOLERANCE, rel=0)


@given(st.lists(st.floats(min_value=5e-324, max_value=1.0), min_size=1, max_size=6))
@pytest.mark.parametrize("name", ["yaml", "json", "csv", "domains"])
def test_any_weight_reads_back_as_the_same_number(name, tmp_path_factory, weights):
    given_weights = {f"d{number}": weight for number, weight in enumerate(weights)}
    path = written(name, tmp_path_factory.mktemp(name), blend(weights=given_weights))
    assert READERS[name](path) == given_weights


@pytest.mark.parametrize("name", READERS)
def test_a_file_depends_on_the_mixture_alone_and_not_on_the_order_of_its_rows(name, tmp_path):
    shuffled = blend_of(
        mixture_table().sample(fraction=1, shuffle=True, seed=1),
        study="mine",
        target="code",
        version="0123abcd",
        seed=3,
        template="data/{domain}",
        epochs=dict.fromkeys(WEIGHTS, 1.0),
    )
    assert shuffled == blend()
    assert [share.weight for share in shuffled.shares] == sorted(WEIGHTS.values(), reverse=True)
    assert _OF_BLEND[name](shuffled) == _OF_BLEND[name](blend())


def test_repeats_that_the_study_allows_are_allowed_to_olmo(tmp_path):
    sources = yaml.safe_load(written("olmo", tmp_path, blend(max_epochs=4.0)).read_text())["sources"]
    assert {source["max_repetition_ratio"] for source in sources} == {4.0}
    sources = yaml.safe_load(written("olmo", tmp_path, blend(max_epochs=0.5)).read_text())["sources"]
    assert {source["max_repetition_ratio"] for source in sources} == {1.0}, "OLMo-core accepts no less than 1"


def test_a_remote_path_is_remote_to_mosaicml_streaming(tmp_path):
    remote = written("mosaicml", tmp_path, blend("s3://bucket/{domain}/mds"))
    streams = yaml.safe_load(remote.read_text())["streams"]
    assert streams["example.com"] == {"remote": "s3://bucket/example.com/mds", "proportion": 0.5}


def test_data_files_are_read_by_the_builder_of_their_suffix(tmp_path):
    (tmp_path / "data").mkdir()
    for share in blend().shares:
        (tmp_path / "data" / f"{share.name}.jsonl").write_text(f'{{"name": "{share.name}"}}\n')
    path = written("huggingface", tmp_path, blend(f"{tmp_path}/data/{{domain}}.jsonl"))
    assert next(iter(runpy.run_path(str(path))["load_mixture"]()))["name"] in {file_name(name) for name in WEIGHTS}


def test_white_space_in_a_path_is_refused_where_it_would_cut_arguments(tmp_path):
    with pytest.raises(InputError, match=r"'my data/example\.com' holds white space"):
        written("megatron", tmp_path, blend("my data/{domain}"))


def test_the_page_list_holds_the_sampled_pages_of_the_mixture_and_none_that_models_are_tested_on():
    splits = ("training", "scoring", "benchmark")
    rows = [
        {"page_id": f"{domain}:{split}", "domain": domain, "split": split, "bytes": 8, "tokens": 2, "text": "a text."}
        for domain in ("example.com", "null", "unused.org")
        for split in splits
    ]
    pages = pl.DataFrame(rows, schema=TABLES["pages"].polars_schema)
    listed = pl.read_parquet(io.BytesIO(as_page_list(blend(), pages)))
    assert listed["page_id"].to_list() == [
        f"{domain}:{split}" for domain in ("example.com", "null") for split in ("scoring", "training")
    ]
    assert dict(listed.select("domain", "weight").iter_rows()) == {name: WEIGHTS[name] for name in listed["domain"]}
    with pytest.raises(InputError, match="no sampled page belongs to the mixture"):
        as_page_list(blend(), pages.clear())


def test_a_plain_domain_is_its_own_file_name():
    assert [file_name(name) for name in ("example.com", "a-b_c.d", "7zip.org")] == [
        "example.com",
        "a-b_c.d",
        "7zip.org",
    ]


@given(st.lists(st.text(min_size=1), unique=True, min_size=2, max_size=20))
def test_no_two_domains_have_one_file_name_even_where_case_is_ignored(domains):
    # With its own file name among the domains, where one could be mistaken for the other.
    everything = {*domains, *map(file_name, domains)}
    names = {file_name(domain) for domain in everything}
    assert len({name.casefold() for name in names}) == len(everything)
    assert all(0 < len(name) <= 100 and Path(name).name == name and name not in (".", "..") for name in names)


def test_weights_are_not_rounded_on_the_way():
    """Exactly, in fractions: what the file says is what the table holds, so the sum is as close to 1 as before."""
    exported = json.loads(_OF_BLEND["json"](blend()))["domains"]
    assert sum(Fraction(row["weight"]) for row in exported) == sum(map(Fraction, WEIGHTS.values()))
