"""The answer as tables for a terminal: per target the verdict and the domains with the largest weights."""

from rich.markup import escape
from rich.table import Table

from ppl_assets.report.data import ReportData
from ppl_assets.report.wording import correlation, share

ROWS = 10


def summary_tables(tables: ReportData) -> list[Table]:
    """One table per target: domain, weight, cap, estimate, interval, decision; the verdict above, its reason below.

    A combined mixture comes last where it is the one to use.
    """
    used = [tables.used] if tables.used and tables.used not in tables.targets else []
    return [_summary(tables, name) for name in [*tables.targets, *used]]


def _summary(tables: ReportData, target: str) -> Table:
    rows = tables.domain_rows(target)
    gate = tables.verdict(target)
    verdict = gate["verdict"] if gate else "no verdict" if target in tables.targets else "of all targets"
    table = Table(
        title=escape(f"{target}: {verdict}{', the mixture to use' if target == tables.used else ''}"),
        caption=escape(gate["reason"]) if gate else None,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("domain", overflow="fold")
    for name in ("weight", "cap", "estimate"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    table.add_column("decision")
    for row in rows.head(ROWS).iter_rows(named=True):
        interval = (
            f"{correlation(row['ci_low'])} to {correlation(row['ci_high'])}" if row["ci_low"] is not None else "–"
        )
        table.add_row(
            escape(row["domain"]),
            share(row["weight"]),
            share(row["cap"]),
            correlation(row["estimate"]),
            interval,
            row["decision"],
        )
    if rows.height > ROWS:
        rest = rows[ROWS:]
        table.add_row(f"{rest.height:,} others", share(float(rest["weight"].sum())), "", "", "", "")
    return table
