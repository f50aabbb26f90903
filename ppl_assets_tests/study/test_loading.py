"""Study files: what is accepted, and how each mistake is told."""

import re
from pathlib import Path

import pytest

from ppl_assets.errors import InputError
from ppl_assets.study import EMBEDDED, embedded_text, load_study, parse_study

SMALLEST = """\
name: small
targets:
  arc: {tasks: [{task: arc_easy, metric: acc, kind: accuracy}]}
mixture: {keep: 0.1}
"""

TWO = SMALLEST.replace("mixture:", "  sciq: {tasks: [{task: sciq, metric: acc, kind: accuracy}]}\nmixture:")
DENY = "policy: [{action: deny, reason: r, owner: o, date: 2026-01-31}]\n"


def parse(text: str):
    return parse_study(text, where="study.yaml", folder=Path("/somewhere"))


def test_the_smallest_study_gets_the_defaults_that_its_sections_state():
    study = parse(SMALLEST)
    assert (study.corpus, study.models, study.estimation.minimum_models) == (None, (), 10)
    assert study.path("data/a.csv") == Path("/somewhere/data/a.csv")


def test_a_date_may_stand_in_a_study_without_quotes():
    assert parse(SMALLEST + DENY).policy[0].date == "2026-01-31"


def test_the_mixture_to_use_is_the_one_stated_or_the_first_one_combined_or_the_only_one():
    assert parse(SMALLEST).used_mixture == "arc"
    assert parse(TWO).used_mixture is None
    assert parse(TWO.replace("0.1}", "0.1, use: sciq}")).used_mixture == "sciq"
    assert parse(TWO.replace("0.1}", "0.1, combine: [pareto, max_min, mean]}")).used_mixture == "max_min"


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_study_loads_by_name(name):
    assert load_study(name).name == name
    assert embedded_text(name).lstrip().startswith("#"), "an embedded study explains itself"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALLEST.replace("keep", "kep"), r"line 4: mixture\.kep: unknown key \(did you mean 'keep'\?\)"),
        (SMALLEST + "targts: {}\n", r"line 5: targts: unknown key \(did you mean 'targets'\?\)"),
        (SMALLEST + "xyzzy: 1\n", r"xyzzy: unknown key; expected one of .*corpus.*mixture"),
        (SMALLEST.replace("0.1", "'0.1'"), r"line 4: mixture\.keep: found '0\.1', expected: .*valid number"),
        (SMALLEST.replace("0.1", "1.5"), r"mixture\.keep: found 1\.5, expected: .*less than or equal to 1"),
        (SMALLEST.replace("name: small\n", ""), r"name: missing"),
        (SMALLEST.replace("kind: accuracy", "kind: accurate"), r"kind: found 'accurate', expected: .*'accuracy'"),
        (SMALLEST.replace("name: small", "name: Small One"), r"line 1: name: found 'Small One'"),
        (SMALLEST + "models: [{slug: ../evil, family: f, source: s}]\n", r"models\.0\.slug: found '\.\./evil'"),
        (
            SMALLEST + "models:\n  - {slug: a, family: f, source: s}\n  - {slug: a, family: g, source: t}\n",
            r"duplicate slug 'a'",
        ),
        (
            SMALLEST + "corpus: {source: {kind: jsonl, paths: [a], domain: d, ur: u}}\n",
            r"corpus\.source\.ur: unknown key",
        ),
        (
            SMALLEST + "corpus: {source: {kind: jsonl, paths: [a]}}\n",
            r"corpus\.source: expected exactly one of 'domain' and 'url'",
        ),
        (SMALLEST.replace("{keep: 0.1}", "{}"), r"mixture: expected exactly one of 'budget_tokens' and 'keep'"),
        (
            SMALLEST.replace("0.1}", "0.1, bounds: [{attribute: langauge, label: de}]}"),
            r"mixture\.bounds\.0\.attribute: found 'langauge', expected: .*'language', 'group', 'license' or 'maker'",
        ),
        (
            SMALLEST.replace("0.1}", "0.1, bounds: [{attribute: group, label: a, floor: 0.5, ceiling: 0.4}]}"),
            r"mixture\.bounds\.0: floor 0\.5 is above ceiling 0\.4",
        ),
        (SMALLEST.replace("0.1}", "0.1, combine: [mean]}"), r"mixture\.combine needs two targets or more"),
        (TWO.replace("0.1}", "0.1, combine: [mean, mean]}"), r"mixture: combine names 'mean' twice"),
        (TWO.replace("0.1}", "0.1, combine: [max]}"), r"mixture\.combine\.0: found 'max', expected: .*'max_min'"),
        (
            TWO.replace("0.1}", "0.1, target_weights: {arcs: 1}}"),
            r"target_weights names 'arcs', expected .*'arc', 'sciq'",
        ),
        (TWO.replace("0.1}", "0.1, target_weights: {arc: -1}}"), r"target_weights must be 0 or more, found {'arc': -1"),
        (TWO.replace("0.1}", "0.1, target_weights: {arc: 0}}"), r"target_weights are all 0"),
        (TWO.replace("0.1}", "0.1, use: mean}"), r"mixture\.use is 'mean', expected one of \['arc', 'sciq'\]"),
        (
            TWO.replace("0.1}", "0.1, combine: [max_min], projection: kl}"),
            r"combine: max_min needs projection 'linear'",
        ),
        (TWO.replace("0.1}", "0.1, churn: 0.2, projection: l2}"), r"churn needs projection 'linear', found 'l2'"),
        (TWO.replace("0.1}", "0.1, churn: 0}"), r"mixture\.churn: found 0"),
        (TWO.replace("arc:", "mean:").replace("0.1}", "0.1, combine: [mean]}"), r"target 'mean' has a name that"),
        (TWO.replace("arc:", "pareto-2:").replace("0.1}", "0.1, combine: [pareto]}"), r"target 'pareto-2' has a name"),
        (SMALLEST + DENY.replace("2026-01-31", "soon"), r"policy\.0\.date: found 'soon'"),
        (SMALLEST + "model_policy: {licenses: [], reason: r, owner: o, date: 2026-01-31}\n", r"model_policy\.licenses"),
        (SMALLEST + "filter: {word_ngrams: 9}\n", r"filter\.word_ngrams: found 9, expected: .*less than or equal to 8"),
        (
            SMALLEST + "filter: {dimension: 100, buckets: 3000000}\n",
            r"filter: dimension 100 x buckets 3,000,000 take 1,200,000,000 bytes, expected at most 1,073,741,824",
        ),
        ("[1, 2]\n", r"found list at the top, expected a mapping"),
        ("name: [\n", r"not valid YAML"),
    ],
)
def test_a_mistake_names_file_line_field_and_what_was_expected(text, message):
    with pytest.raises(InputError) as raised:
        parse(text)
    assert re.search(message, str(raised.value)), str(raised.value)
    assert str(raised.value).startswith("study.yaml")


def test_a_file_that_is_missing_or_not_utf8_is_told_by_name(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such study file"):
        load_study(str(tmp_path / "nowhere.yaml"))
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: caf\xe9".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml: byte 9 is not UTF-8"):
        load_study(str(path))


def test_all_mistakes_are_told_at_once():
    with pytest.raises(InputError) as raised:
        parse(SMALLEST.replace("keep: 0.1", "kep: 0.1").replace("name: small", "name: 3"))
    assert "name: found 3" in str(raised.value)
    assert "mixture.kep" in str(raised.value)
