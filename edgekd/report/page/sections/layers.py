"""Where the time of a call goes, layer by layer."""

from edgekd.device.layers import converts
from edgekd.report.page.blocks import Cell, Head, Plot, Section, Table, Text
from edgekd.report.page.plots.bars import Bar, bars
from edgekd.report.page.plots.svg import FIRST, FOURTH, SECOND, THIRD
from edgekd.verbs.report import TargetContent
from edgekd.verbs.report.evidence import LayerTimes, Node

MOST = 20  # bars; those beyond become one
_COLOURS = {"in integers": FIRST, "in float": SECOND, "rounding and layout": THIRD, "not told": FOURTH}


def layers(target: TargetContent) -> Section:
    """Return the section."""
    title, found = "Where the time goes", target.layers
    if found.times is None:
        return Section(title, [Text(f"What single layers take is absent: {found.absent}.")])
    return Section(title, [_summary(found.times), _plot(found.times, found.on)])


def _summary(times: LayerTimes) -> Text:
    return Text(
        f"{len(times.nodes)} nodes ran, {times.integer_share:.0%} of the time in integers and {times.conversion_share:.0%} in "
        "rounding and layout. The runtime's profile slows calls down: its times compare with each other, not with latencies."
    )


def _plot(times: LayerTimes, on: str) -> Plot:
    order = sorted(times.nodes, key=lambda one: -one.time_us)
    slowest, rest = (order[:MOST], order[MOST:]) if len(order) > MOST + 1 else (order, [])
    rows = [Bar(one.name, {_kind(one): one.time_us}, f"{_time(one.time_us)} µs, {one.share:.1%}") for one in slowest]
    if rest:
        parts: dict[str, float] = {}
        for one in rest:
            parts[_kind(one)] = parts.get(_kind(one), 0) + one.time_us
        text = f"{_time(sum(parts.values()))} µs, {sum(one.share for one in rest):.1%}"
        rows.append(Bar(f"{len(rest)} others", parts, text))
    numbers = Table(
        "The numbers of this plot: every node in the order in which it ran",
        [Head("node", number=False), Head("operator", number=False), Head("time", "µs, measured"), Head("share", "%"), Head("element type", number=False)],
        [
            [Cell(one.name), Cell(one.operator), Cell(_time(one.time_us), one.time_us), Cell(f"{one.share:.1%}", one.share), Cell(one.dtype or "not told")]
            for one in times.nodes
        ],
        folded=True,
        width=40,
    )  # fmt: skip
    caption = f"Time of the slowest nodes, measured with {on}, median of the calls with its profile on."
    return Plot(bars(rows, _COLOURS, "median time, µs", caption), caption, numbers)


def _kind(node: Node) -> str:
    if converts(node.operator):
        return "rounding and layout"
    if node.dtype is None:
        return "not told"
    return "in float" if "float" in node.dtype else "in integers"


def _time(microseconds: float) -> str:
    """Return a time with the digits that it has: the profiles of runtimes count whole microseconds."""
    return f"{microseconds:,.4g}" if microseconds < 1e4 else f"{microseconds:,.0f}"
