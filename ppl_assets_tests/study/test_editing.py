"""Models added to and retired from a study file: the text around them stays as a person wrote it."""

import difflib
from pathlib import Path

import pytest
import yaml

from ppl_assets.errors import InputError
from ppl_assets.study import add_model, embedded_text, load_study, retire_model

NEW = {"slug": "new-model", "family": "ours", "source": "maker/new", "revision": "v1", "license": None}
REST = """\
name: own
imports: {scores: [scores.csv]}
targets: {t: {tasks: [{task: t, metric: acc, kind: accuracy}]}}
mixture: {keep: 0.5}   # half
"""
LISTS = {
    "no list": "",
    "empty": "models: []\n",
    "flow": "models: [{slug: a, family: f, source: m/a, revision: v}, {slug: b, family: f, source: m/b}]\n",
    "flow items": """\
models:   # ours
  - {slug: a, family: f, source: m/a, revision: v}
  # the second one
  - {slug: b, family: f, source: m/b,
     revision: v}   # over two lines
  # the end
""",
    "blocks": """\
models:
- slug: a
  family: f
  source: m/a
  revision: v

- slug: b   # second
  family: f
  source: m/b
  revision: "v"
# what follows
""",
}


def write(folder: Path, models: str, *, last: bool = False) -> Path:
    path = folder / "study.yaml"
    path.write_text(REST + models if last else models + REST)
    return path


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line.startswith(("+ ", "- ")) and line[2:].strip()]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("models", LISTS.values(), ids=LISTS)
def test_an_added_model_is_the_last_of_the_list_and_retiring_it_gives_the_list_back(tmp_path, models, last):
    path = write(tmp_path, models, last=last)
    before = load_study(str(path)).models
    add_model(str(path), NEW)
    after = load_study(str(path)).models
    assert after[:-1] == before
    assert (after[-1].slug, after[-1].source, after[-1].license) == ("new-model", "maker/new", None)
    retire_model(str(path), "new-model")
    assert load_study(str(path)).models == before
    for line in (REST + models).splitlines():
        comment = line.partition("#")[2]
        assert comment in path.read_text()


@pytest.mark.parametrize("slug", ["a", "b"])
@pytest.mark.parametrize("models", [LISTS[name] for name in ("flow", "flow items", "blocks")])
def test_a_retired_model_is_gone_and_the_other_stays(tmp_path, models, slug):
    path = write(tmp_path, models)
    retire_model(str(path), slug)
    (left,) = load_study(str(path)).models
    assert {left.slug, slug} == {"a", "b"}
    retire_model(str(path), left.slug)
    assert load_study(str(path)).models == ()


def test_in_a_long_study_with_comments_one_line_changes(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(embedded_text("paper"))
    before = path.read_text()
    add_model(str(path), NEW)
    assert len(changed_lines(before, path.read_text())) == 1
    retire_model(str(path), "new-model")
    assert path.read_text() == before
    slug = yaml.safe_load(before)["models"][40]["slug"]
    retire_model(str(path), slug)
    (line,) = changed_lines(before, path.read_text())
    assert slug in line


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (NEW | {"slug": "a"}, "duplicate slug 'a'"),
        (NEW | {"slug": "Bad Slug"}, "slug: found 'Bad Slug'"),
        (NEW | {"kind": "secret"}, "kind: found 'secret'"),
    ],
)
def test_a_model_that_is_not_valid_leaves_the_file_as_it_was(tmp_path, model, sentence):
    path = write(tmp_path, LISTS["flow items"])
    before = path.read_text()
    with pytest.raises(InputError, match=sentence):
        add_model(str(path), model)
    assert path.read_text() == before


def test_what_cannot_be_edited_is_told(tmp_path):
    path = write(tmp_path, LISTS["blocks"])
    with pytest.raises(InputError, match=r"models lists no 'aa'.*did you mean 'a'"):
        retire_model(str(path), "aa")
    with pytest.raises(InputError, match="'demo' is an embedded study and cannot be edited"):
        add_model("demo", NEW)
    with pytest.raises(InputError, match="no such study file"):
        add_model(str(tmp_path / "absent.yaml"), NEW)


def test_checkpoints_that_appear_in_a_folder_join_the_models(tmp_path):
    path = write(tmp_path, "checkpoints: [{path: run, run: ours, family: ours, maker: us}]\n" + LISTS["flow"])
    with pytest.raises(InputError, match=r"checkpoints.0.path: .*run: no such folder"):
        load_study(str(path))
    for name in ("Step 100", "step-200", "not a model"):
        (tmp_path / "run" / name).mkdir(parents=True)
    for name in ("Step 100", "step-200"):
        (tmp_path / "run" / name / "config.json").write_text("{}")
    study = load_study(str(path))
    found = study.models[2:]
    assert [model.slug for model in found] == ["ours-step-100", "ours-step-200"]
    assert {(model.run, model.family, model.maker) for model in found} == {("ours", "ours", "us")}
    assert all(study.is_checkpoint(model) for model in found)
    assert not any(study.is_checkpoint(model) for model in study.models[:2])
    (tmp_path / "run" / "step 100").mkdir()
    (tmp_path / "run" / "step 100" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="found the slug 'ours-step-100' twice"):
        load_study(str(path))
