"""A plan for a terminal: a row per model, totals per asset, and the sentences that the numbers rest on."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from ppl_assets.planning.forecast import EVALUATION, SCORING, TRAINING, Item, Plan

_WORDS = {TRAINING: "training", SCORING: "scoring", EVALUATION: "benchmarks"}


def plan_table(plan: Plan) -> Table:
    """One row per model or training run: what it takes, and what of it is done."""
    table = Table("model or run", title=f"Device: {plan.device.name}", title_justify="left")
    for name in ("parameters", "chunks", "tokens", *_WORDS.values(), "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in dict.fromkeys(item.partition for item in plan.items):
        own = {item.asset: item for item in plan.items if item.partition == name}
        first = next(iter(own.values()))
        seconds = sum(item.seconds for item in own.values() if not item.done)
        table.add_row(
            escape(name),
            _scaled(first.params or 0.0),
            f"{plan.chunks:,}" if SCORING in own else "",
            _scaled(sum(item.tokens for item in own.values())),
            *(_cell(own.get(asset)) for asset in _WORDS),
            _money(plan, seconds),
        )
    return table


def plan_lines(plan: Plan, *, workers: int) -> Iterator[str]:
    """Totals, then assumptions."""
    for asset, word in _WORDS.items():
        own = [item for item in plan.items if item.asset == asset]
        if not own:
            continue
        to_do = [item for item in own if not item.done]
        paid = sum(item.paid_seconds for item in own)
        yield (
            f"{word}: {len(to_do)} of {len(own)} to do, {_scaled(sum(item.tokens for item in to_do))} tokens, "
            f"{sum(item.flops for item in to_do):.2g} FLOPs, {duration(plan.seconds(asset))} of the device"
            f"{_costing(plan, plan.seconds(asset))}; paid for already: {duration(paid)}"
        )
    together = plan.seconds()
    at_once = "" if plan.device.is_gpu else f", {duration(together / workers)} by the clock with {workers} workers"
    yield f"in all: {duration(together)} of the device{at_once}{_costing(plan, together)}"
    if plan.cost(1.0) is None:
        yield "cost: the study states no price for an hour of this device (prices)"
    yield "Assumptions:"
    yield from (f"- {sentence}" for sentence in plan.assumptions)


def duration(seconds: float) -> str:
    """`12 s`, `3.4 min`, `5.6 h`, `1,234 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _cell(item: Item | None) -> str:
    if item is None:
        return ""
    return f"done ({duration(item.paid_seconds)})" if item.done else duration(item.seconds)


def _scaled(value: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.0f}"


def _money(plan: Plan, seconds: float) -> str:
    cost = plan.cost(seconds)
    return "" if cost is None else f"{cost:,.2f} {plan.currency}"


def _costing(plan: Plan, seconds: float) -> str:
    cost = _money(plan, seconds)
    return f", {cost}" if cost else ""
