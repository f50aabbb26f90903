"""The registry: lineage, identity, and every way in which a model folder can be unusable."""

import json
import struct
from pathlib import Path

import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.model_files import check_files, count_parameters, weights_digest
from ppl_assets.registry import local_revision, only_imported, register
from ppl_assets.schema import TABLES
from ppl_assets.study import parse_study

NO_CHECKPOINTS = TABLES["zoo_checkpoints"].polars_schema.to_frame()
STATED = dict.fromkeys(("slug", "family", "source", "revision", "stated_by"), pl.String)
NOTHING_IMPORTED = pl.DataFrame(schema=STATED)


def write_model(folder: Path, values: tuple[float, ...] = (1.0, 2.0, 3.0)) -> Path:
    """A folder with a configuration, a tokenizer and one tensor, in the safetensors layout written by hand."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    header = json.dumps({"w": {"dtype": "F32", "shape": [len(values)], "data_offsets": [0, 4 * len(values)]}}).encode()
    data = struct.pack("<Q", len(header)) + header + struct.pack(f"<{len(values)}f", *values)
    (folder / "model.safetensors").write_bytes(data)
    return folder


def study_with(folder: Path, models: str):
    text = (
        f"name: s\ntargets: {{t: {{tasks: [{{task: a, metric: m, kind: error}}]}}}}\nmixture: {{keep: 0.1}}\n{models}"
    )
    return parse_study(text, where="study.yaml", folder=folder)


def registered(tmp_path: Path, models: str, imported: pl.DataFrame = NOTHING_IMPORTED) -> pl.DataFrame:
    study = study_with(tmp_path, models)
    return register(study, checkpoints=NO_CHECKPOINTS, imported=imported, cache=tmp_path / "digests")


def stated(*rows: tuple[str | None, ...]) -> pl.DataFrame:
    """Slug, family, source and revision as imported rows state them, the first by ``file-1``."""
    return pl.DataFrame([(*row, f"file-{number}") for number, row in enumerate(rows, 1)], schema=STATED, orient="row")


def test_a_local_model_carries_its_digest_size_and_lineage(tmp_path):
    write_model(tmp_path / "m")
    (row,) = registered(tmp_path, "models: [{slug: m, family: f, source: m, license: mit, maker: us}]\n").to_dicts()
    assert (row["params"], row["family"], row["run"], row["license"], row["status"]) == (3, "f", "m", "mit", "ready")
    assert row["revision"] == local_revision(tmp_path / "m", tmp_path / "digests")
    assert row["weights_digest"] == weights_digest(tmp_path / "m")


def test_the_same_weights_under_two_names_take_part_once(tmp_path):
    write_model(tmp_path / "one")
    write_model(tmp_path / "two")
    write_model(tmp_path / "three", values=(1.0, 2.0, 4.0))
    models = (
        "models: ["
        + ", ".join(f"{{slug: {name}, family: f, source: {name}}}" for name in ("two", "one", "three"))
        + "]\n"
    )
    rows = {row["slug"]: row for row in registered(tmp_path, models).to_dicts()}
    assert (rows["one"]["status"], rows["two"]["status"], rows["three"]["status"]) == ("ready", "duplicate", "ready")
    assert rows["two"]["status_reason"] == "the same model as 'one'"


POLICY = "model_policy: {licenses: [mit, 'apache-*'], reason: legal review, owner: legal, date: 2026-01-31}\n"


def test_models_whose_licence_is_not_listed_are_registered_but_take_no_part(tmp_path):
    for name in ("one", "two", "three"):
        write_model(tmp_path / name, values=(1.0, float(len(name)), float(ord(name[1]))))
    models = (
        "models: [{slug: one, family: f, source: one, license: mit}, "
        "{slug: two, family: f, source: two, license: gpl}, {slug: three, family: f, source: three}]\n"
    )
    rows = {row["slug"]: row for row in registered(tmp_path, models + POLICY).to_dicts()}
    assert {slug: row["status"] for slug, row in rows.items()} == {"one": "ready", "two": "denied", "three": "denied"}
    assert rows["two"]["status_reason"] == "licence 'gpl' is not allowed: legal review (legal, 2026-01-31)"
    assert rows["three"]["status_reason"] == "no licence is stated: legal review (legal, 2026-01-31)"


def test_a_denied_model_does_not_hide_the_same_weights_under_an_allowed_licence(tmp_path):
    write_model(tmp_path / "a")
    write_model(tmp_path / "b")
    models = "models: [{slug: a, family: f, source: a}, {slug: b, family: f, source: b, license: apache-2.0}]\n"
    statuses = dict(registered(tmp_path, models + POLICY).select("slug", "status").iter_rows())
    assert statuses == {"a": "denied", "b": "ready"}


def test_what_the_study_trains_needs_no_licence(tmp_path):
    row = {
        "run": "r",
        "step": 4,
        "slug": "r-step4",
        "family": "f",
        "params": 3,
        "tokens": 8,
        "training_loss": 2.0,
        "weights_digest": "d",
    }
    checkpoints = pl.DataFrame([row], schema=TABLES["zoo_checkpoints"].polars_schema)
    study = study_with(tmp_path, POLICY)
    models = register(study, checkpoints=checkpoints, imported=NOTHING_IMPORTED, cache=tmp_path / "digests")
    assert models["status"].to_list() == ["ready"]


def test_an_imported_repository_under_two_families_takes_part_once(tmp_path):
    imported = stated(("a-x", "x", "maker/a", None), ("a-y", "y", "maker/a", None), ("a-z", "z", "maker/a", "step1"))
    statuses = dict(registered(tmp_path, "", imported).select("slug", "status").iter_rows())
    assert statuses == {"a-x": "ready", "a-y": "duplicate", "a-z": "ready"}


@pytest.mark.parametrize("revisions", [("a" * 64, "b" * 64), ("a" * 40, "b" * 7), ("step1", "step2")])
def test_losses_of_one_revision_and_scores_of_another_are_refused_and_both_named(tmp_path, revisions):
    one, other = (("m", "f", "maker/m", revision) for revision in revisions)
    message = f"model 'm': file-2 states the revision '{revisions[0]}' and file-3 '{revisions[1]}', expected one model"
    silent = ("m", "f", "maker/m", None)
    with pytest.raises(InputError, match=message):
        registered(tmp_path, "", stated(silent, one, other))
    listing = "models: [{slug: m, family: f, source: imported}]\n"
    with pytest.raises(InputError, match=message):
        registered(tmp_path, listing, stated(silent, one, other))


@pytest.mark.parametrize(
    "revisions", [("a" * 40, "a" * 7), ("a" * 32, "b" * 64), ("a" * 32, "b" * 40), ("step1", "b" * 40), (None, "step1")]
)
def test_revisions_that_may_be_of_one_model_are_taken_together(tmp_path, revisions):
    rows = registered(tmp_path, "", stated(*(("m", "f", "maker/m", revision) for revision in revisions)))
    assert rows.select("slug", "revision").rows() == [("m", revisions[0] or "step1")]


def test_two_families_of_one_slug_are_refused_unless_the_study_names_its_own(tmp_path):
    imported = stated(("m", "one", None, None), ("m", "two", None, None))
    with pytest.raises(InputError, match="model 'm': file-1 states the family 'one' and file-2 'two', expected one"):
        registered(tmp_path, "", imported)
    listing = "models: [{slug: m, family: three, source: imported}]\n"
    assert registered(tmp_path, listing, imported)["family"].to_list() == ["three"]


def test_a_family_that_one_file_states_counts_though_another_states_none(tmp_path):
    # What the reader puts where a file has no column of families: the slug, or the maker.
    imported = stated(("m", "m", None, None), ("m", "maker", "Maker/m", None), ("m", "recipe", None, "step1"))
    (row,) = registered(tmp_path, "", imported).to_dicts()
    assert (row["family"], row["source"], row["revision"]) == ("recipe", "Maker/m", "step1")


def test_changed_weights_or_tokenizer_change_the_revision(tmp_path):
    folder = write_model(tmp_path / "m")
    first = local_revision(folder, tmp_path / "digests")
    (folder / "tokenizer.json").write_text('{"changed": 1}')
    second = local_revision(folder, tmp_path / "digests")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-4] + b"\0\0\0\1")
    assert len({first, second, local_revision(folder, tmp_path / "digests")}) == 3
    assert local_revision(Path("maker/repository"), tmp_path / "digests") is None


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "model 'm': .*found no config.json, expected a model folder"),
        ("model.safetensors", r"model 'm': .*found no weights, expected \*.safetensors"),
        ("tokenizer.json", "model 'm': .*found no tokenizer, expected tokenizer.json"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused_by_name(tmp_path, missing, message):
    (write_model(tmp_path / "m") / missing).unlink()
    with pytest.raises(InputError, match=message):
        registered(tmp_path, "models: [{slug: m, family: f, source: m}]\n")


def test_an_index_of_weights_leads_to_no_file_of_another_folder(tmp_path):
    write_model(tmp_path / "other")
    own = write_model(tmp_path / "m")
    (own / "model.safetensors").rename(own / "part.safetensors")
    index = {"weight_map": {"w": "../other/model.safetensors"}}
    (own / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"found no \.\./other/model\.safetensors, expected by model\.safetensors"):
        registered(tmp_path, "models: [{slug: m, family: f, source: m}]\n")


@pytest.mark.parametrize("content", ['{"weight_map": {"a"', "[]", '{"weight_map": 1}', "{}"])
def test_an_index_of_weights_that_is_cut_off_or_none_is_refused_by_name(tmp_path, content):
    index = write_model(tmp_path / "m") / "model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(InputError, match=r"model 'm': .*index.json: found no index of weights .*download it again"):
        registered(tmp_path, "models: [{slug: m, family: f, source: m}]\n")


@pytest.mark.parametrize("sharded", [False, True])
def test_a_second_copy_of_the_weights_beside_those_that_are_loaded_does_not_count(tmp_path, sharded):
    folder = write_model(tmp_path / "m")
    whole = folder / "model.safetensors"
    expected = weights_digest(folder)
    (folder / "consolidated.safetensors").write_bytes(whole.read_bytes())
    if sharded:
        whole.rename(folder / "model-00001-of-00001.safetensors")
        index = {"weight_map": {"w": "model-00001-of-00001.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert (count_parameters(folder), weights_digest(folder)) == (3, expected)


@pytest.mark.parametrize("size", [4, 30, -1])
def test_truncated_weights_are_refused_with_both_sizes(tmp_path, size):
    path = write_model(tmp_path / "m") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"model.safetensors: found \d+ bytes"):
        check_files(tmp_path / "m")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{slug: m, family: f, source: ./nowhere}", "model 'm': .*nowhere: no such folder"),
        ("{slug: m, family: f, source: maker/name}", "model 'm': revision is missing; expected a pinned commit"),
        ("{slug: m, family: f, source: imported}", "model 'm': source is 'imported', but no imported matrix holds it"),
    ],
)
def test_a_source_that_leads_nowhere_is_refused(tmp_path, model, message):
    with pytest.raises(InputError, match=message):
        registered(tmp_path, f"models: [{model}]\n")


def test_a_checkpoint_that_is_not_whole_waits_and_holds_up_no_other(tmp_path):
    checkpoints = "checkpoints: [{path: run, run: r, family: f, license: mit}]\n"
    write_model(tmp_path / "run" / "step1")
    half = write_model(tmp_path / "run" / "step2", values=(1.0, 2.0, 4.0)) / "model.safetensors"
    whole = half.read_bytes()
    half.write_bytes(whole[:-4])
    first, second = registered(tmp_path, checkpoints).to_dicts()
    assert (first["slug"], first["run"], first["license"], first["status"]) == ("r-step1", "r", "mit", "ready")
    assert (second["slug"], second["status"]) == ("r-step2", "unusable")
    assert "model.safetensors" in second["status_reason"]
    half.write_bytes(whole)
    assert registered(tmp_path, checkpoints)["status"].to_list() == ["ready", "ready"]


def test_only_models_without_weights_count_as_imported(tmp_path):
    study = study_with(
        tmp_path, "models: [{slug: local, family: f, source: ./m}, {slug: far, family: f, source: imported}]\n"
    )
    assert [only_imported(study, slug) for slug in ("local", "far", "unlisted")] == [False, True, True]
