"""SECURITY.md, line by line: each names the test that holds it, here or in the room that it is about."""

import gzip
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from ppl_assets.corpus import read_pages, rows
from ppl_assets.errors import InputError
from ppl_assets.filtering.classifier import Classifier, ClassifierSettings, train_classifier
from ppl_assets.filtering.normalization import Normalization
from ppl_assets.likelihood import load_model
from ppl_assets.orchestration.step import preview
from ppl_assets.registry import matrices
from ppl_assets.registry.matrices import read_bpb, slug_of
from ppl_assets.study.loading import parse_study
from ppl_assets.warehouse import Lake, published_tables
from ppl_assets_tests.filtering.worlds import labelled_pages
from ppl_assets_tests.orchestration.test_runner import ran_without_error, settings_of
from ppl_assets_tests.scored_study import write_model
from ppl_assets_tests.studies import imported_tables, write_import_study

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "ppl_assets").rglob("*.py"))
SMALLEST = "name: s\ntargets: {t: {tasks: [{task: x, metric: acc, kind: accuracy}]}}\nmixture: {keep: 0.5}\n"
ESCAPES = ["../evil", "..", "a/b", "/etc", "a\0b", "A", "", "a...b", "a b", "x\n", "a" * 101, "é"]


def test_every_line_names_tests_that_exist() -> None:
    table = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")][2:]
    known = {
        name
        for path in (ROOT / "ppl_assets_tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(table) == 12
    for line in table:
        named = re.findall(r"`(test_\w+)`", line.split("|")[3])
        assert named, line
        assert set(named) <= known, line


@pytest.mark.parametrize("key", ESCAPES)
def test_no_partition_key_leaves_the_lake(tmp_path, key) -> None:
    lake = Lake(tmp_path / "lake")
    for use in (lake.path, lake.exists, lake.footer, lake.verify, lake.read, lake.remove):
        with pytest.raises(InputError, match="is no slug"):
            use("domain_logliks", key)


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize(
    "study",
    [
        SMALLEST.replace("name: s", "name: NAME"),
        SMALLEST.replace("{t: ", "{NAME: "),
        SMALLEST + "models: [{slug: NAME, family: f, source: folder}]\n",
        SMALLEST + "checkpoints: [{path: ., run: NAME, family: f}]\n",
        SMALLEST + "benchmarks: {build: [{task: NAME, pages: '*', form: choice}]}\n",
    ],
    ids=["study", "target", "model", "run", "task"],
)
def test_a_study_refuses_names_that_are_no_slugs(tmp_path, study, name) -> None:
    with pytest.raises(InputError):
        parse_study(study.replace("NAME", json.dumps(name)), where="study", folder=tmp_path)


@pytest.mark.parametrize("name", ["模型", "///", "-", ""])
def test_an_imported_model_without_a_letter_for_a_slug_is_refused(tmp_path, name) -> None:
    assert not slug_of(name)
    (tmp_path / "bpb.csv").write_text(f"model,domain,bpb\n{name},d,1\n")
    with pytest.raises(InputError, match=r"no letter a-z|is empty"):
        read_bpb(tmp_path / "bpb.csv")


def test_names_that_look_like_sql_arrive_as_they_are(tmp_path) -> None:
    """Domains of every kind of quote, through the whole graph into the published file."""
    study = write_import_study(tmp_path)
    losses, _ = imported_tables()
    nasty = {"maths-0": "'; DROP TABLE models; --", "maths-1": '"a""b"', "poetry-0": "$slug", "poetry-1": "\\'%_"}
    losses.with_columns(pl.col("domain").replace(nasty)).write_csv(tmp_path / "bpb.csv")
    assert ran_without_error(settings_of(study))
    tables = published_tables(settings_of(study).warehouse_file)
    assert set(nasty.values()) <= set(tables["domain_logliks"]["domain"])
    assert set(nasty.values()) <= set(tables["pretraining_mixture"]["domain"])
    assert tables["models"].height == 12


def test_only_the_warehouse_speaks_sql() -> None:
    speaking = {path.relative_to(ROOT).as_posix() for path in SOURCES if "import duckdb" in path.read_text()}
    assert speaking == {"ppl_assets/warehouse/engine.py"}
    assert "params=parameters" in (ROOT / "ppl_assets/warehouse/engine.py").read_text()


def test_no_process_is_started_through_a_shell() -> None:
    shells = re.compile(r"shell\s*=\s*True|os\.system|os\.popen|getoutput|(?<![.\w])(eval|exec)\(")
    assert [str(path) for path in SOURCES if shells.search(path.read_text())] == []


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_weights_are_refused_and_not_opened(tmp_path) -> None:
    folder, trace = tmp_path / "model", tmp_path / "was here"
    write_model(folder, seed=0)
    (folder / "model.safetensors").unlink()
    torch.save(Payload(trace), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"only pickled weights .pytorch_model.bin., expected \*.safetensors"):
        load_model(folder)
    write_model(folder, seed=0)
    load_model(folder)
    assert not trace.exists(), "safetensors beside it are what is read"


def test_no_code_path_reads_pickle() -> None:
    unsafe = re.compile(r"\bimport pickle|torch\.load\(|joblib|allow_pickle=True|yaml\.load\(|yaml\.unsafe")
    assert [str(path) for path in SOURCES if unsafe.search(path.read_text())] == []


@pytest.mark.parametrize("trusted", [False, True])
def test_code_in_a_model_folder_does_not_run_unless_the_study_says_so(tmp_path, monkeypatch, trusted) -> None:
    folder, trace = tmp_path / "model", tmp_path / "was here"
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    write_model(folder, seed=0)
    configuration = json.loads((folder / "config.json").read_text())
    configuration |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(configuration))
    (folder / "own.py").write_text(
        f"from pathlib import Path\nPath({str(trace)!r}).touch()\n"
        "from transformers import GPT2Config, GPT2LMHeadModel\n"
        "class Own(GPT2Config):\n    model_type = 'own'\n"
        "class OwnModel(GPT2LMHeadModel):\n    config_class = Own\n"
    )
    if trusted:
        load_model(folder, trust_remote_code=True)
    else:
        with pytest.raises(InputError, match="cannot be loaded as a causal language model"):
            load_model(folder)
    assert trace.exists() == trusted


def test_a_parquet_file_that_unpacks_to_too_much_is_refused_unread(tmp_path, monkeypatch) -> None:
    path = tmp_path / "bpb.parquet"
    pl.DataFrame({"slug": ["m"] * 100_000, "domain": ["d" * 100] * 100_000, "bpb": 1.0}).write_parquet(
        path, use_pyarrow=True, pyarrow_options={"use_dictionary": False}
    )
    assert path.stat().st_size < 1_000_000
    monkeypatch.setattr(matrices, "_MOST_BYTES", 5_000_000)
    with pytest.raises(InputError, match=r"bytes unpacked and 3 columns, expected at most 5,000,000"):
        read_bpb(path)
    pl.DataFrame({"slug": ["m"], "domain": [["d"]], "bpb": [1.0]}).write_parquet(path)
    with pytest.raises(InputError, match="column 'domain' is nested"):
        read_bpb(path)


def test_damaged_parquet_is_an_error_and_no_crash(tmp_path) -> None:
    """Every byte altered in turn: the rows as they were, other rows that pass the checks, or a sentence."""
    path = tmp_path / "bpb.parquet"
    pl.DataFrame({"slug": ["m", "n"], "domain": ["d", "e"], "bpb": [1.0, 2.0]}).write_parquet(path)
    content = path.read_bytes()
    refused = 0
    for position in range(len(content)):
        altered = bytearray(content)
        altered[position] ^= 0x55
        path.write_bytes(altered)
        try:
            read_bpb(path)
        except InputError:
            refused += 1
    assert refused > len(content) / 4


def test_a_line_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch) -> None:
    with gzip.open(tmp_path / "pages.jsonl.gz", "wb") as file:
        file.write(b'{"domain": "d", "text": "' + b"a" * 10_000_000 + b'"}\n')
    study = parse_study(
        SMALLEST + "corpus: {source: {kind: jsonl, paths: [pages.jsonl.gz], domain: domain}}\n",
        where="study",
        folder=tmp_path,
    )
    monkeypatch.setattr(rows, "_MOST_LINE_BYTES", 1_000_000)
    with pytest.raises(InputError, match=r"pages.jsonl.gz, line 1: over 1,000,000 bytes, expected one page"):
        list(read_pages(study))


@pytest.fixture(scope="module")
def filter_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("filter")
    pages = labelled_pages()
    texts, labels = pages["text"].to_list(), pages["label"].to_numpy()
    small = ClassifierSettings(dimension=8, buckets=5000, min_count=1)
    train_classifier(texts, labels, folder / "model.bin", settings=small, normalization=Normalization())
    return folder / "model.bin"


def _cut(content: bytes) -> bytes:
    return content[:-7]


def _longer(content: bytes) -> bytes:
    return content + b"\0" * 8


def _another_file(content: bytes) -> bytes:
    return b"PK" + content[2:]


def _huge_dimension(content: bytes) -> bytes:
    return content[:8] + struct.pack("<i", 1 << 30) + content[12:]


def _huge_vocabulary(content: bytes) -> bytes:
    return content[:64] + struct.pack("<3i", 1 << 30, (1 << 30) - 2, 2) + content[76:]


def _negative_buckets(content: bytes) -> bytes:
    return content[:40] + struct.pack("<i", -1) + content[44:]


def _no_dimension(content: bytes) -> bytes:
    return content[:8] + struct.pack("<i", 0) + content[12:]


def _no_buckets(content: bytes) -> bytes:
    return content[:40] + struct.pack("<i", 0) + content[44:]


def _endless_ngrams(content: bytes) -> bytes:
    return content[:28] + struct.pack("<i", 1 << 30) + content[32:]


def _subwords(content: bytes) -> bytes:
    return content[:44] + struct.pack("<2i", 3, 6) + content[52:]


def _another_loss(content: bytes) -> bytes:
    return content[:32] + struct.pack("<i", 1) + content[36:]


def _pruned(content: bytes) -> bytes:
    return content[:84] + struct.pack("<q", 0) + content[92:]


def _label_among_words(content: bytes) -> bytes:
    first_word_ends = content.index(b"\0", 92)
    return content[: first_word_ends + 9] + b"\1" + content[first_word_ends + 10 :]


def _no_number(content: bytes) -> bytes:
    return content[:-4] + struct.pack("<f", float("nan"))


_LIES = [_cut, _longer, _another_file, _huge_dimension, _huge_vocabulary, _negative_buckets, _no_dimension, _no_buckets]
_LIES += [_endless_ngrams, _subwords, _another_loss, _pruned, _label_among_words, _no_number]


@pytest.mark.parametrize("lie", _LIES)
def test_a_filter_that_lies_about_its_lengths_is_refused(filter_file, tmp_path, lie) -> None:
    Classifier.load(filter_file, Normalization())
    (tmp_path / "model.bin").write_bytes(lie(filter_file.read_bytes()))
    with pytest.raises(InputError, match="no fastText model that can be trusted"):
        Classifier.load(tmp_path / "model.bin", Normalization())


def test_a_preview_carries_no_markup() -> None:
    shown = preview(pl.DataFrame({"domain": ["<script>alert(1)</script>", "a|b", "`c`\n# d"]}))
    assert "<script" not in shown
    assert shown.count("\n") == 4
    assert "a&#124;b" in shown


def test_a_secret_of_the_environment_is_in_no_file_and_no_output(tmp_path) -> None:
    study = write_import_study(tmp_path)
    write_model(tmp_path / "broken", seed=0)
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no weights")
    # One run that succeeds, and one that fails with a traceback in Dagster's event log.
    secret = "hf_" + "secretsecret" * 3
    environment = os.environ | {"HF_TOKEN": secret, "HUGGING_FACE_HUB_TOKEN": secret, "AWS_SECRET_ACCESS_KEY": secret}
    command = [sys.executable, "-m", "ppl_assets", "run", "--study", str(study), "--state", str(tmp_path / "state")]
    outputs = []
    for more in ("", "models: [{slug: broken, family: f, source: broken}]\n"):
        study.write_text(study.read_text() + more)
        outputs.append(subprocess.run(command, capture_output=True, env=environment, timeout=600))
    assert [output.returncode for output in outputs] == [0, 2]
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert len(files) > 50
    for content in (*(path.read_bytes() for path in files), *(o.stdout + o.stderr for o in outputs)):
        assert secret.encode() not in content
