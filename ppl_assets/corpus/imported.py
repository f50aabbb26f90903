"""Domains that are known by imported losses alone: their text, and so their size, is elsewhere."""

from collections.abc import Sequence

import polars as pl

from ppl_assets.corpus.policy import decide_policy
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import PolicyRule


def imported_domains(imported_bpb: pl.DataFrame, policy: Sequence[PolicyRule]) -> pl.DataFrame:
    """Rows of ``domains`` for the domains of imported losses, without pages, bytes or tokens."""
    rows = []
    for name in sorted(set(imported_bpb["domain"])):
        decision, reason = decide_policy(policy, name, None, None, None)
        rows.append({"domain": name, "policy": decision, "policy_reason": reason})
    return pl.DataFrame(rows, schema=TABLES["domains"].polars_schema)
