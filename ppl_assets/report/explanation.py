"""Why one domain or page is trained on, or is not: the way from its text to the decision, and what would change it.

A name is looked for as a domain, as a page, and among what was left out or retired: every answer says where it was
found. Counterfactuals are decided anew by `mixture.counterfactuals`, not read off.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from ppl_assets.errors import InputError, suggestion
from ppl_assets.mixture.counterfactuals import Grounds, decide_again, with_epochs, without_family
from ppl_assets.report.certificates import Facts, domain_facts
from ppl_assets.report.data import ReportData
from ppl_assets.retired import Retired


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where an explanation looks: tables of these names, and how an estimate of each page of a target is made."""

    data: ReportData
    grounds: Grounds
    page_sample: pl.DataFrame
    page_rejections: pl.DataFrame
    near_duplicates: pl.DataFrame
    retired: Retired
    page_estimates: Callable[[str], Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a name stands for: a domain, with the page where it is one's name."""

    domain: str
    page: dict[str, Any] | None = None


def find(sources: Sources, name: str) -> Found:
    """The domain or sampled page of a name.

    Raises:
        InputError: it is neither; says whether it was retired or left out and why, or what the nearest name is.
    """
    domains = sources.data.domains["domain"].to_list()
    if name in domains:
        return Found(domain=name)
    page = sources.page_sample.filter(pl.col("page_id") == name).drop("digest", "order").to_dicts()
    if page and page[0]["domain"] in domains:
        twin = sources.near_duplicates.filter(pl.col("page_id") == name).to_dicts()
        return Found(
            domain=page[0]["domain"], page=page[0] | {"near_duplicate_of": twin[0]["kept_page_id"] if twin else None}
        )
    if name in sources.retired:
        raise InputError(f"{name!r}: was retired, and nothing is kept of it but the entry in retired.json")
    left_out = sources.page_rejections.filter(pl.col("domain") == name).select("reason", "pages").iter_rows()
    if reasons := [f"{reason} ({pages} pages)" for reason, pages in left_out]:
        raise InputError(f"{name!r}: all pages of this domain were left out: {', '.join(reasons)}")
    if not domains:
        raise InputError(f"{name!r}: the state folder holds no domains yet; run `ppl-assets run` first")
    raise InputError(
        f"{name!r}: unknown, neither one of the {len(domains)} domains nor one of the "
        f"{sources.page_sample.height} sampled pages of this study{suggestion(name, domains)}"
    )


def explain(
    sources: Sources, name: str, target: str, *, families: Iterable[str] = (), epochs: Iterable[float] = ()
) -> Facts:
    """Everything about a domain or page for one target, and what would have been decided otherwise.

    Args:
        name: a domain or the id of a sampled page.
        families: leave out each of these families of models; by default the one that moves the estimate most.
        epochs: allow every domain to be repeated so often; by default twice.

    Raises:
        InputError: an unknown target, name or family.
    """
    study = sources.grounds.study
    if target not in study.targets:
        raise InputError(
            f"target {target!r}: found none of that name{suggestion(target, study.targets)}; "
            f"expected one of {', '.join(study.targets)}"
        )
    found = find(sources, name)
    facts = domain_facts(sources.data, study, target, found.domain)
    strongest = facts["audit"].get("strongest_family")
    families = list(families) or ([strongest] if strongest else [])
    asked = {f"without family {family}": family for family in families}
    allowed = {f"with a cap of {count:g} epochs": count for count in list(epochs) or [2.0]}
    page = found.page
    if page is not None:
        page = page | {"estimate": sources.page_estimates(target).get(name)}
    return {
        "page": page,
        **facts,
        "counterfactuals": [
            *(_without(sources.grounds, what, family, target, found.domain) for what, family in asked.items()),
            *(_at(with_epochs(sources.grounds, count), what, target, found.domain) for what, count in allowed.items()),
        ],
    }


def _without(grounds: Grounds, what: str, family: str, target: str, domain: str) -> Facts:
    if family not in set(grounds.models["family"]):
        without_family(grounds, family, target)  # says which families there are
    try:
        return _at(without_family(grounds, family, target), what, target, domain)
    except InputError as error:
        return {"what": what, "impossible": str(error)}


def _at(grounds: Grounds, what: str, target: str, domain: str) -> Facts:
    return {"what": what, **asdict(decide_again(grounds, target)[domain])}
