"""Numbers as people read them. The exact value stays next to the text in the page."""

import math


def share(value: float | None) -> str:
    """A share in per cent, three significant digits: `12.3 %`, `0.0520 %`, `0 %`."""
    if value is None:
        return "–"
    return f"{_digits(100 * value)} %"


def gain(value: float | None) -> str:
    """A share with a sign: `+94.1 %`, `−12.0 %`; `0 %` for what is rounding."""
    if value is None:
        return "–"
    if abs(value) < 1e-9:
        return "0 %"
    return f"{'+' if value > 0 else '−'}{_digits(100 * abs(value))} %"


def points(value: float | None) -> str:
    """A number that is in per cent already, with its sign: `+2.31 %`."""
    return "–" if value is None else gain(value / 100)


def correlation(value: float | None) -> str:
    """A correlation with sign and two decimals: `+0.41`, `−0.03`."""
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def plain(value: float | None) -> str:
    """Any number, three significant digits: `23.4`, `0.00213`."""
    return "–" if value is None else _digits(value).replace("-", "−")


def probability(value: float | None) -> str:
    """A p- or q-value: three decimals, `< 0.001` below that."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(value: float | None) -> str:
    """A count: in full below 10,000, otherwise with k, M, B, T and three significant digits."""
    if value is None:
        return "–"
    if abs(value) < 10_000:
        return f"{value:,.0f}"
    power = min(int(math.log10(abs(value)) // 3), 4)
    return f"{_digits(value / 1000**power)} {'kMBT'[power - 1]}"


def power(value: float | None) -> str:
    """A very large number by its power of ten: `1.7e15`; below ten thousand as `plain`."""
    if value is None or abs(value) < 10_000:
        return plain(value)
    return f"{value:.2g}".replace("e+", "e")


def listing(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _digits(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0:
        return "0"
    decimals = max(2 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{min(decimals, 8)}f}"
