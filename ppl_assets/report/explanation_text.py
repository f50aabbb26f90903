"""An explanation as lines for a terminal, in the order of its facts; one fact a line, one heading a step."""

from collections.abc import Iterator
from typing import Any

from ppl_assets.report.certificates import Facts
from ppl_assets.report.wording import correlation, count, listing, plain, probability, share


def explanation_lines(facts: Facts) -> Iterator[str]:
    """From the page, where one was asked for, to the decision and what would have changed it."""
    for heading, lines in _steps(facts):
        yield heading
        yield from (f"  {line}" for line in lines)


def _steps(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    domain, decision = facts["domain"], facts["decision"]
    if facts["page"]:
        yield f"page {facts['page']['page_id']}", _page(facts["page"])
    yield f"domain {domain['domain']}", _domain(domain)
    if facts["group"]:
        yield f"group {facts['group']['group']}", _group(facts["group"])
    yield f"estimate for {facts['target']}", _estimate(facts["estimate"])
    if facts["audit"]:
        yield "what the estimate hangs on", _audit(facts["audit"])
    yield "models and tasks", _evidence(facts["evidence"])
    yield "gate", _gate(facts["gate"])
    yield f"decision: {decision['decision']}", _decision(decision, facts["limits"])
    yield "what would have been", [_counterfactual(each) for each in facts["counterfactuals"]]


def _page(page: Facts) -> list[str]:
    lines = [f"in the {page['split']} part, {count(page['bytes'])} bytes, {count(page['tokens'])} reference tokens"]
    if page["near_duplicate_of"]:
        lines.append(f"taken out: it nearly repeats page {page['near_duplicate_of']}")
    if page["estimate"] is not None:
        lines.append(f"its own estimate is {correlation(page['estimate'])}")
    return lines


def _domain(domain: Facts) -> list[str]:
    named = [("language", "language"), ("license", "licence"), ("maker", "maker")]
    stated = [f"{word} {domain[column]}" for column, word in named if domain.get(column)]
    held = f"{count(domain['pages'])} pages, {count(domain['tokens'])} reference tokens in the whole source"
    policy = f"policy: {domain['policy']}" + (f", {domain['policy_reason']}" if domain["policy_reason"] else "")
    return [held, listing(stated) if stated else "no language, licence or maker stated", policy]


def _group(group: Facts) -> list[str]:
    return [
        f"{count(group['domains'])} domains, mean estimate {correlation(group['mean_estimate'])}",
        f"{share(group['weight'])} of the mixture, {share(group['pool'])} of the pool",
    ]


def _estimate(row: Facts) -> list[str]:
    if row.get("estimate") is None:
        return ["none could be made"]
    lines = [f"{correlation(row['estimate'])} ({row['estimator']}), {count(row['models'])} models"]
    if row["ci_low"] is not None:
        lines[0] += f", interval {correlation(row['ci_low'])} to {correlation(row['ci_high'])}"
        lines.append(
            f"better than the pool: q {probability(row['q_value'])}; selected in {share(row['selection_probability'])} "
            "of half-samples of families"
        )
        lines.append(
            f"given size {correlation(row['given_size'])}, given mean loss {correlation(row['given_mean_loss'])}, "
            f"within families {correlation(row['within_family'])}, between them {correlation(row['between_family'])}"
        )
    return lines


def _audit(audit: Facts) -> list[str]:
    lines = []
    if audit["strongest_family"]:
        lines.append(
            f"one family left out: from {correlation(audit['estimate_least'])} to "
            f"{correlation(audit['estimate_greatest'])}; {audit['strongest_family']} moves it most"
        )
    if audit["pages"] is not None:
        lines.append(
            f"its {count(audit['pages'])} scored pages: {share(audit['page_agreement'])} on the domain's side of the "
            f"mean domain, standard error from their sampling {plain(audit['page_stderr'])}"
        )
        shared = share(audit["overlapping_share"])
        lines.append(
            f"{count(audit['overlapping_pages'])} of them share text with the tasks ({shared} of bytes); without such "
            f"pages {correlation(audit['estimate_without_overlap'])}"
        )
    if audit["tasks_not_read"]:
        lines.append(f"tasks whose text could not be compared: {audit['tasks_not_read']}")
    return lines


def _evidence(evidence: Facts) -> list[str]:
    best, worst = evidence["lowest_losses"], evidence["highest_losses"]
    lines = [f"tasks {listing(evidence['tasks'])}"]
    lines.append(f"{count(evidence['models'])} models in {count(evidence['families'])} families")
    for word, models in (("lowest", best), ("highest", worst)):
        named = [f"{row['slug']} ({plain(row['bpb'])} bits per byte, error {plain(row['error'])})" for row in models]
        if named:
            lines.append(f"{word} losses: {listing(named)}")
    return lines


def _gate(gate: Facts) -> list[str]:
    return [f"{gate['verdict']}: {gate['reason']}"] if gate else ["has not looked at this target"]


def _decision(decision: Facts, limits: list[str]) -> list[str]:
    weight = (
        f"{share(decision['weight'])} of the mixture ({count(decision['tokens'])} tokens), cap {share(decision['cap'])}"
    )
    return [weight, decision["reason"], *limits]


def _counterfactual(row: dict[str, Any]) -> str:
    if "impossible" in row:
        return f"{row['what']}: no decision; {row['impossible']}"
    return (
        f"{row['what']}: {row['decision']}, {share(row['weight'])} of the mixture (cap {share(row['cap'])}), "
        f"estimate {correlation(row['estimate'])}, gate {row['verdict']}"
    )
