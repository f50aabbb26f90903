"""Losses from one site to another: what the file holds, what it does not, and what is refused where it arrives."""

import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.export.losses import COLUMNS, export_losses
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.registry import imported_bpb, register, take_in
from ppl_assets.schema import TABLES
from ppl_assets.settings import Settings
from ppl_assets.study import load_study, parse_study

NEEDLE = "a sentence that may not leave this site"
REVISION = "0123456789abcdef" * 2
STUDY = "name: s\ntargets: {t: {tasks: [{task: x, metric: acc, kind: accuracy}]}}\nmixture: {keep: 0.5}\n"


def rows_of(table: str, rows: list[dict]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=TABLES[table].polars_schema)


@pytest.fixture
def site(tmp_path) -> Workspace:
    """Where the text is: two models, one of them without a loss on one domain."""
    (tmp_path / "site").mkdir()
    study = tmp_path / "site" / "study.yaml"
    study.write_text(STUDY)
    workspace = Workspace(Settings(state=tmp_path / "site" / "state", study=str(study)))
    lineage = {"run": "r", "kind": "public", "status": "ready"}
    models = [
        {"slug": "local", "family": "ours", "source": str(tmp_path / "weights"), "revision": REVISION} | lineage,
        {"slug": "public", "family": "theirs", "source": "maker/name", "revision": "v1"} | lineage,
    ]
    workspace.lake.write("models", rows_of("models", models), fingerprint="models")
    for slug, bpbs in (("local", [0.5, 0.25]), ("public", [1.0, None])):
        losses = [
            {"slug": slug, "domain": domain, "nll": bpb, "tokens": 7, "bytes": 9, "bpb": bpb}
            for domain, bpb in zip(("inside.org", "outside.org"), bpbs, strict=True)
        ]
        workspace.lake.write(
            "domain_logliks", rows_of("domain_logliks", losses), partition=slug, fingerprint=f"f-{slug}"
        )
    chunks = [{"chunk_id": "p#0", "page_id": "p", "domain": "inside.org", "position": 0, "text": NEEDLE, "tokens": 9}]
    known = TABLES["chunks"].polars_schema
    filled = [{name: chunk.get(name, 1 if known[name] == pl.Int64 else "x") for name in known} for chunk in chunks]
    workspace.lake.write("chunks", rows_of("chunks", filled), fingerprint="chunks")
    return workspace


def elsewhere(tmp_path) -> Settings:
    (tmp_path / "elsewhere").mkdir()
    study = tmp_path / "elsewhere" / "study.yaml"
    study.write_text(STUDY)
    return Settings(state=tmp_path / "elsewhere" / "state", study=str(study))


def test_exported_losses_hold_no_text(site, tmp_path):
    rows = export_losses(site, tmp_path / "losses.parquet")
    stored = pl.read_parquet(tmp_path / "losses.parquet")
    assert stored.equals(rows)
    assert tuple(stored.columns) == COLUMNS
    texts = {value for column in stored.select(pl.col(pl.String)) for value in column.drop_nulls()}
    known = {"local", "public", "ours", "theirs", "maker/name", REVISION, "v1", "inside.org", "outside.org"}
    assert texts == known | {"f-local", "f-public"}, "no text, and no path of this machine"
    assert stored.height == 3, "what has no loss is left out"


def test_they_are_merged_where_they_arrive_row_by_row_and_twice_makes_no_difference(site, tmp_path):
    rows = export_losses(site, tmp_path / "losses.parquet")
    settings = elsewhere(tmp_path)
    study = load_study(settings.study)
    (tmp_path / "own.csv").write_text("slug,domain,bpb\nlocal,their-own.org,0.75\n")
    for name in ("losses.parquet", "own.csv", "losses.parquet"):
        take_in(study, settings, "bpb", tmp_path / name)
    # The same losses beside a new one, as a later export of the site has them.
    later = pl.concat([rows, rows.head(1).with_columns(domain=pl.lit("new.org"))])
    later.write_parquet(tmp_path / "later.parquet")
    take_in(study, settings, "bpb", tmp_path / "later.parquet")
    merged = imported_bpb(study, settings)
    assert set(merged["domain"]) == {"inside.org", "outside.org", "their-own.org", "new.org"}
    both = merged.join(rows, on=("slug", "domain"), suffix="_sent")
    assert both.height == rows.height
    for column in ("bpb", "nll", "tokens", "bytes", "revision", "fingerprint"):
        assert both[column].equals(both[f"{column}_sent"]), column
    rows.with_columns(pl.col("bpb") * 2).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(InputError, match="stands twice, expected once"):
        take_in(study, settings, "bpb", tmp_path / "other.parquet")


def test_losses_of_other_weights_than_the_registered_ones_are_refused(site, tmp_path):
    rows = export_losses(site, tmp_path / "losses.parquet").filter(pl.col("slug") == "local")
    settings = elsewhere(tmp_path)
    study = load_study(settings.study)
    checkpoint = {"slug": "local", "family": "ours", "run": "r", "params": 1, "weights_digest": REVISION}
    defaults = {name: checkpoint.get(name) for name in TABLES["zoo_checkpoints"].polars_schema}
    same = pl.DataFrame([defaults], schema=TABLES["zoo_checkpoints"].polars_schema)
    lineage = rows.select("slug", "family", "source", "revision", stated_by=pl.lit("losses"))
    registered = register(study, checkpoints=same, imported=lineage, cache=tmp_path)
    assert registered["status"].to_list() == ["ready"]
    other = same.with_columns(weights_digest=pl.lit(REVISION[::-1]))
    with pytest.raises(InputError, match=f"model 'local': losses states revision {REVISION}, expected"):
        register(study, checkpoints=other, imported=lineage, cache=tmp_path)


def test_two_sites_that_mean_two_models_by_one_slug_are_told_so_when_the_second_file_arrives(site, tmp_path):
    rows = export_losses(site, tmp_path / "north.parquet").filter(pl.col("slug") == "local")
    settings = elsewhere(tmp_path)
    study = load_study(settings.study)
    first = take_in(study, settings, "bpb", tmp_path / "north.parquet")
    south = rows.with_columns("south-" + pl.col("domain"), revision=pl.lit(REVISION[::-1]))
    south.write_parquet(tmp_path / "south.parquet")
    message = f"{first} states the revision '{REVISION}' and {tmp_path / 'south.parquet'} '{REVISION[::-1]}', expected"
    with pytest.raises(InputError, match=f"model 'local': {message} one model under one slug"):
        take_in(study, settings, "bpb", tmp_path / "south.parquet")
    assert imported_bpb(study, settings)["revision"].unique().to_list().count(REVISION[::-1]) == 0
    # The same two as files of the study, which nobody took in one by one.
    named = parse_study(STUDY + "imports: {bpb: [north.parquet, south.parquet]}\n", where="study", folder=tmp_path)
    with pytest.raises(InputError, match=r"model 'local': .*north\.parquet states the revision .*south\.parquet"):
        imported_bpb(named, Settings(state=tmp_path / "other", study=""))


def test_nothing_to_export_and_a_file_of_another_kind_are_told(tmp_path):
    empty = Workspace(elsewhere(tmp_path))
    with pytest.raises(InputError, match="holds no losses yet"):
        export_losses(empty, tmp_path / "losses.parquet")
    with pytest.raises(InputError, match=r"expected the path of a .parquet file"):
        export_losses(empty, tmp_path / "losses.csv")
