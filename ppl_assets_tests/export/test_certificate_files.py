"""Certificates as files: those of the rows and no others, and nothing is written that is there already."""

import json

import polars as pl

from ppl_assets.export import write_certificates


def rows(**decision_of: str) -> pl.DataFrame:
    facts = [json.dumps({"domain": domain, "café": 1}) for domain in decision_of]
    columns = {"target": "code", "domain": list(decision_of), "decision": list(decision_of.values())}
    return pl.DataFrame(columns | {"certificate": facts})


def test_selected_domains_have_a_file_each_and_others_none(tmp_path):
    write_certificates(tmp_path, rows(one="selected", two="fallback"))
    (path,) = tmp_path.glob("*/*.json")
    assert path == tmp_path / "code" / "one.json"
    assert json.loads(path.read_text(encoding="utf-8")) == {"domain": "one", "café": 1}


def test_what_is_no_longer_selected_goes(tmp_path):
    write_certificates(tmp_path, rows(one="selected", two="selected"))
    write_certificates(tmp_path, rows(two="selected"))
    assert [path.name for path in tmp_path.glob("*/*.json")] == ["two.json"]


def test_an_unchanged_file_is_left_and_a_damaged_one_replaced(tmp_path):
    write_certificates(tmp_path, rows(one="selected", two="selected"))
    left, damaged = tmp_path / "code" / "one.json", tmp_path / "code" / "two.json"
    whole, inode = damaged.read_bytes(), left.stat().st_ino
    damaged.write_bytes(whole[:10] + b"\xff")
    write_certificates(tmp_path, rows(one="selected", two="selected"))
    assert damaged.read_bytes() == whole
    assert left.stat().st_ino == inode
