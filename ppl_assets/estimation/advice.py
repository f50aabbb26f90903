"""What the pool at hand cannot tell, what one more model would add, and which small models to train to know more.

Rows of ``target_pairs``, ``candidate_gains`` and ``probe_proposals``. Probes are proposed where two targets are not
separable (`SAME`) or where a target has fewer than `FEW_MODELS` effective models. What a probe adds is judged by the
losses of the families at hand alone, never by an estimate: a proposal does not chase what the pool believes already.
"""

import glob
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import takewhile

import numpy as np
import polars as pl

from ppl_assets.estimation.evidence import Evidence, error_matrix, with_errors
from ppl_assets.estimation.independence import effective_models, gain_of_candidate
from ppl_assets.estimation.probe_design import propose_probes
from ppl_assets.estimation.targets import SAME, target_correlations
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Zoo

FEW_MODELS = 20  # below it one family decides much of an estimate
PROBES = 10  # enough to separate two targets that the public pool could not, docs/estimation.md
MOST_GROUPS = 40  # a mixture over more cannot be written down for a person to read
NEW_FAMILY = "(new)"


def pair_rows(errors: pl.DataFrame, targets: Sequence[str]) -> pl.DataFrame:
    """Rows of ``target_pairs``: how alike targets are over the models that have both."""
    _, error_MT = error_matrix(errors, targets)
    rho_TT, known_MT = target_correlations(error_MT), ~np.isnan(error_MT)
    rows = [
        {
            "target": targets[s],
            "other": targets[t],
            "rho": float(rho_TT[s, t]),
            "models": int((known_MT[:, s] & known_MT[:, t]).sum()),
            "separable": not abs(rho_TT[s, t]) > SAME,
        }
        for s in range(len(targets))
        for t in range(s + 1, len(targets))
    ]
    return pl.DataFrame(rows, schema=TABLES["target_pairs"].polars_schema).with_columns(pl.col("rho").fill_nan(None))


def candidate_rows(evidence: Evidence, errors: pl.DataFrame, targets: Iterable[str]) -> pl.DataFrame:
    """Rows of ``candidate_gains``: effective models that one more model of each family, or of a new one, would add."""
    rows = []
    for target in targets:
        own = with_errors(evidence, errors, target)
        for family in [*sorted(set(own.families)), NEW_FAMILY]:
            gain = gain_of_candidate(own.error_M, families=own.families, candidate=family)
            rows.append({"target": target, "family": family, "models": own.families.count(family), "gain": gain})
    return pl.DataFrame(rows, schema=TABLES["candidate_gains"].polars_schema)


def proposal_rows(
    evidence: Evidence, errors: pl.DataFrame, targets: Sequence[str], *, zoo: Zoo | None, seed: int
) -> pl.DataFrame:
    """Rows of ``probe_proposals``: none where the pool suffices, or domains have no groups to mix."""
    nothing = TABLES["probe_proposals"].polars_schema.to_frame()
    reasons = _reasons(evidence, errors, targets)
    groups = evidence.groups if len(set(evidence.groups)) > 1 else evidence.domains
    if not reasons or not 2 <= len(set(groups)) <= MOST_GROUPS:
        return nothing
    design = propose_probes(evidence.bpb_MD, families=evidence.families, groups=groups, probes=PROBES, seed=seed)
    snippets = design.snippets(
        patterns_of(dict(zip(evidence.domains, groups, strict=True))),
        tokenizer=next(iter(zoo.tokenizers)) if zoo else "bpe4k",
        architecture=next(iter(zoo.architectures)) if zoo else "llama",
    )
    rows = [
        {
            "run": run,
            "place": place,
            "mixture": json.dumps(
                {group: round(float(part), 4) for group, part in zip(design.groups, share, strict=True)}
            ),
            "snippet": snippet,
            "reason": "; ".join(reasons),
        }
        for place, ((run, snippet), share) in enumerate(zip(snippets.items(), design.shares, strict=True), start=1)
    ]
    return pl.DataFrame(rows, schema=nothing.schema)


def _reasons(evidence: Evidence, errors: pl.DataFrame, targets: Sequence[str]) -> list[str]:
    """What the pool cannot tell, in words."""
    alike = pair_rows(errors, targets).filter(~pl.col("separable"))
    reasons = [
        f"{target} and {other} cannot be told apart (rank correlation {rho:.2f})"
        for target, other, rho in alike.select("target", "other", "rho").iter_rows()
    ]
    for target in targets:
        own = with_errors(evidence, errors, target)
        effective = effective_models(own.error_M, families=own.families)
        if effective < FEW_MODELS:
            reasons.append(f"{target} rests on {effective:.0f} independent models, fewer than {FEW_MODELS}")
    return reasons


def patterns_of(group_of: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """For each group the domain patterns that stand for it, and the part of its share that each gets.

    One pattern (what its domains begin and end with) where no other group's domain matches it, else every domain by its
    name, in equal parts.
    """
    domains = defaultdict(list)
    for domain, group in group_of.items():
        domains[group].append(domain)
    return {group: _patterns(own, set(group_of) - set(own)) for group, own in domains.items()}


def _patterns(own: list[str], others: set[str]) -> dict[str, float]:
    start, end = _beginning(own), _beginning([domain[::-1] for domain in own])[::-1]
    end = end[max(0, len(start) + len(end) - min(map(len, own))) :]
    pattern = f"{glob.escape(start)}*{glob.escape(end)}"
    if len(own) > 1 and (start or end) and not any(fnmatchcase(domain, pattern) for domain in others):
        return {pattern: 1.0}
    return {glob.escape(domain): 1 / len(own) for domain in own}


def _beginning(names: list[str]) -> str:
    """What all names begin with: what the first and the last in order share."""
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(min(names), max(names), strict=False)))
