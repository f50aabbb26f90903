"""What a pilot found, as tables for a terminal."""

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from rich.table import Table


def summary_tables(comparison: pl.DataFrame) -> "list[Table]":
    """One table per target and size: every arm against uniform on the measure that decides, whatever it shows."""
    decided = comparison.filter("decides").select("size", "target", "measure")
    shown = comparison.filter(role="uniform").join(decided, on=["size", "target", "measure"], how="semi")
    return [
        _table(f"{target}, size {size}", shown.filter(size=size, target=target))
        for size, target in decided.select("size", "target").sort("target", "size").iter_rows()
    ]


def _table(title: str, rows: pl.DataFrame) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    first = rows.sort("seeds").row(-1, named=True)
    title = f"pilot, {title}: gain over uniform in {first['measure']}, {first['seeds']} seeds"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("arm", no_wrap=True)
    for name in ("gain", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("verdict", "seeds needed"):
        table.add_column(name)
    for row in rows.sort("gain", descending=True, nulls_last=True).to_dicts():
        table.add_row(row["arm"], _points(row["gain"]), _interval(row), row["verdict"], str(row["seeds_needed"] or "–"))
    return table


def _interval(row: dict[str, Any]) -> str:
    return "–" if row["ci_low"] is None else f"{_points(row['ci_low'])} to {_points(row['ci_high'])}"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f} %".replace("-", "−")
