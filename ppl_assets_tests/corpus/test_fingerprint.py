import json
import os

import pytest

from ppl_assets.corpus import source_fingerprint
from ppl_assets.errors import InputError
from ppl_assets_tests.corpus.builders import jsonl, make_study, write_jsonl


def fingerprint(folder, source, **options):
    return source_fingerprint(make_study(folder, source), folder / "digests", **options)


def test_files_are_named_by_content_and_not_by_time(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [{"text": "one"}])
    before = fingerprint(tmp_path, jsonl("x.jsonl"))
    os.utime(path, (1, 1))
    assert fingerprint(tmp_path, jsonl("x.jsonl")) == before
    status = path.stat()
    write_jsonl(path, [{"text": "two"}])  # of the same size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    after = fingerprint(tmp_path, jsonl("x.jsonl"))
    assert after != before
    assert after["files"][0]["bytes"] == before["files"][0]["bytes"]
    assert json.loads(json.dumps(after)) == after


def test_files_keep_their_names_when_the_study_moves_and_another_file_is_another_source(tmp_path):
    for folder in ("a", "b"):
        write_jsonl(tmp_path / folder / "x.jsonl", [{"text": "one"}])
    assert fingerprint(tmp_path / "a", jsonl("*.jsonl")) == fingerprint(tmp_path / "b", jsonl("*.jsonl"))
    write_jsonl(tmp_path / "b/y.jsonl", [])
    assert fingerprint(tmp_path / "a", jsonl("*.jsonl")) != fingerprint(tmp_path / "b", jsonl("*.jsonl"))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        fingerprint(tmp_path, jsonl("nosuch.jsonl"))


def test_progress_is_in_bytes(tmp_path):
    sizes = [write_jsonl(tmp_path / name, [{"text": name * 9}]).stat().st_size for name in ("a.jsonl", "bb.jsonl")]
    reports = []
    fingerprint(tmp_path, jsonl("*.jsonl"), progress=reports.append)
    assert [(report.done, report.total) for report in reports] == [(sizes[0], sum(sizes)), (sum(sizes), sum(sizes))]


def test_packages_are_named_by_version_and_by_their_files(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tinypkg").mkdir()
    (tmp_path / "tinypkg/a.py").write_text("x = 1\n", encoding="utf-8")
    source = {"kind": "python_packages", "packages": ["tinypkg", "json", "nosuch"]}
    before = fingerprint(tmp_path, source)
    assert before == fingerprint(tmp_path, source)
    assert (before["packages"]["tinypkg"]["files"], before["packages"]["nosuch"]["files"]) == (1, 0)
    assert before["packages"]["json"]["files"] > 3
    (tmp_path / "tinypkg/a.py").write_text("x = 10\n", encoding="utf-8")
    grown = fingerprint(tmp_path, source)
    (tmp_path / "tinypkg/a.py").rename(tmp_path / "tinypkg/b.py")
    renamed = fingerprint(tmp_path, source)
    assert len({json.dumps(found["packages"]["tinypkg"]) for found in (before, grown, renamed)}) == 3


def test_a_dataset_is_named_by_its_revision_and_a_local_one_by_its_files_too(tmp_path):
    source = {"kind": "huggingface", "dataset": "maker/set", "revision": "abc", "domain": "site"}
    assert fingerprint(tmp_path, source) == {
        "kind": "huggingface",
        "dataset": "maker/set",
        "revision": "abc",
        "subset": None,
        "split": "train",
    }
    assert fingerprint(tmp_path, source) != fingerprint(tmp_path, {**source, "revision": "abd"})
    write_jsonl(tmp_path / "maker/set/train.jsonl", [{"text": "one"}])
    local = fingerprint(tmp_path, source)
    write_jsonl(tmp_path / "maker/set/train.jsonl", [{"text": "three"}])
    assert fingerprint(tmp_path, source) != local
