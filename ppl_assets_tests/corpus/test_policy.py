import pytest

from ppl_assets.corpus import decide_policy
from ppl_assets.study.schema import PolicyRule


def rule(action, reason="r", **lists):
    return PolicyRule(action=action, reason=reason, owner="legal", date="2026-01-31", **lists)


def decide(*rules, domain="a.org", license=None, language=None, maker=None):
    return decide_policy(rules, domain, license, language, maker)


def test_without_a_rule_that_matches_a_domain_is_allowed_for_no_reason():
    assert decide() == ("allow", None)
    assert decide(rule("deny", domains=("b.*",))) == ("allow", None)


def test_the_last_rule_that_matches_decides_and_names_owner_and_date():
    rules = (rule("deny", "all"), rule("allow", "ours", domains=("*.org",)), rule("deny", "late", domains=("b.org",)))
    assert decide(*rules) == ("allow", "ours (legal, 2026-01-31)")
    assert decide(*rules, domain="b.org") == ("deny", "late (legal, 2026-01-31)")
    assert decide(*rules, domain="c.com") == ("deny", "all (legal, 2026-01-31)")


@pytest.mark.parametrize(
    ("lists", "stated", "denied"),
    [
        ({"domains": ("a.org", "b.org")}, {}, True),
        ({"domains": ("A.org",)}, {}, False),
        ({"licenses": ("GPL*",)}, {"license": "GPL-3.0"}, True),
        ({"licenses": ("GPL*",)}, {"license": "LGPL-3.0"}, False),
        ({"licenses": ("MIT", "GPL*")}, {"license": "GPL-2.0"}, True),
        ({"licenses": ("*",)}, {"license": None}, False),
        ({"languages": ("de", "fr")}, {"language": "fr"}, True),
        ({"languages": ("d*",)}, {"language": "de"}, False),
        ({"languages": ("de",)}, {"language": None}, False),
        ({"makers": ("Ann *",)}, {"maker": "Ann Li"}, True),
        ({"makers": ("*",)}, {"maker": None}, False),
        ({"licenses": ("GPL*",), "languages": ("de",)}, {"license": "GPL-3.0", "language": "en"}, False),
        ({"licenses": ("GPL*",), "languages": ("de",)}, {"license": "GPL-3.0", "language": "de"}, True),
        ({"domains": ("b.*",), "licenses": ("GPL*",)}, {"license": "GPL-3.0"}, False),
    ],
)
def test_a_rule_matches_where_each_of_its_lists_does(lists, stated, denied):
    assert decide(rule("deny", **lists), **stated)[0] == ("deny" if denied else "allow")


def test_allowing_named_licences_does_not_allow_text_without_one():
    rules = (rule("deny", "unknown terms"), rule("allow", "free", licenses=("MIT", "Apache*")))
    assert decide(*rules, license="Apache-2.0")[0] == "allow"
    assert decide(*rules, license=None) == ("deny", "unknown terms (legal, 2026-01-31)")
