"""Numbers as text: three digits, and an interval with as many decimals as its number."""

import math
from collections.abc import Iterable, Sequence

from edgekd.figures import Figure, in_digits
from edgekd.report.page.blocks import Cell

LABELS = {
    "score": "score",
    "size_kb": "size",
    "macs": "MACs",
    "parameters": "parameters",
    "zeros": "zeros",
    "latency_p50_ms": "latency p50",
    "latency_p95_ms": "latency p95",
    "energy_mj": "energy",
    "memory_mb": "peak memory",
}
ABSENT = "absent"


def decimals(value: float, digits: int = 3) -> int:
    """Return how many decimals show so many digits of a number."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0


def shown(value: float, digits: int = 3) -> str:
    """Return a number with so many digits, and no fewer than those in front of the point."""
    return f"{value:,.{min(decimals(value, digits), 12)}f}"


def span(low: float | None, high: float | None, places: int) -> str:
    """Return an interval, or nothing where there is none."""
    return "" if low is None or high is None else f"{low:,.{places}f} to {high:,.{places}f}"


def label(name: str, metric: str) -> str:
    """Return what to call a figure."""
    return metric if name == "score" else LABELS.get(name, name)


def figure_cell(name: str, figure: Figure) -> Cell:
    """Return a figure with its interval below, or that it is absent with the reason."""
    if figure.value is None:
        return Cell(ABSENT, below=figure.reason or "")
    return Cell(figure_text(name, figure), figure.value, figure_span(name, figure))


def figure_text(name: str, figure: Figure) -> str:
    """Return the value of a figure, without its unit."""
    value = figure.value
    assert value is not None
    if name in ("score", "accuracy_drop"):
        return in_digits(value, figure.unit)
    if name in ("macs", "parameters"):
        return f"{value:,.0f}" if value < 1e6 else f"{shown(value / 1e6)} M"
    return f"{value:,.1f}" if name == "size_kb" and value >= 10 else shown(value)


def figure_span(name: str, figure: Figure) -> str:
    """Return the interval of a figure, without its unit."""
    if figure.low is None or figure.high is None or figure.value is None:
        return ""
    if name == "score":
        return f"{in_digits(figure.low, figure.unit)} to {in_digits(figure.high, figure.unit)}"
    return span(figure.low, figure.high, decimals(figure.value))


def ways_of(figures: Iterable[Figure]) -> list[str]:
    """Return the ways in which these figures were obtained, a column each; one that says so where none was."""
    return list(dict.fromkeys(one.how for one in figures if one.how and one.value is not None)) or [ABSENT]


def cell_of_way(name: str, figure: Figure, way: str, ways: Sequence[str]) -> Cell:
    """Return what stands of a figure in the column of one way; an absent one stands in the first column."""
    here = way == ways[0] if figure.value is None else figure.how == way
    return figure_cell(name, figure) if here else Cell("")
