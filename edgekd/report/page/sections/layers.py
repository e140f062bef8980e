"""Where the time of a call goes, layer by layer."""

from edgekd.device.layers import converts
from edgekd.report.page.blocks import Cell, Head, Plot, Section, Table, Text
from edgekd.report.page.numbers import shown
from edgekd.report.page.plots.bars import Bar, bars
from edgekd.verbs.report import TargetContent
from edgekd.verbs.report.evidence import LayerTimes, Node

MOST = 20  # bars
KINDS = ("in integers", "in float", "rounding and layout", "not told")


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
    slowest, rest = order[:MOST], order[MOST:]
    rows = [Bar(one.name, {_kind(one): one.time_us}, f"{shown(one.time_us)} µs, {one.share:.1%}") for one in slowest]
    if rest:
        sums = {kind: sum(one.time_us for one in rest if _kind(one) == kind) for kind in KINDS}
        total = sum(sums.values())
        parts = {kind: time for kind, time in sums.items() if time}
        rows.append(Bar(f"{len(rest)} others", parts, f"{shown(total)} µs, {sum(one.share for one in rest):.1%}"))
    used = [kind for kind in KINDS if any(kind in row.parts for row in rows)]
    numbers = Table(
        "The numbers of this plot: every node in the order in which it ran",
        [Head("node", number=False), Head("operator", number=False), Head("time", "µs, measured"), Head("share", "%"), Head("element type", number=False)],
        [
            [Cell(one.name), Cell(one.operator), Cell(shown(one.time_us), one.time_us), Cell(f"{one.share:.1%}", one.share), Cell(one.dtype or "not told")]
            for one in times.nodes
        ],
        folded=True,
        width=40,
    )  # fmt: skip
    svg = bars(
        rows, used, "median time, µs", "Time of every layer: " + "; ".join(f"{row.name} {row.text}" for row in rows[:5])
    )
    return Plot(
        svg, f"Time of the slowest nodes, measured with {on}, median of the calls with its profile on.", numbers
    )


def _kind(node: Node) -> str:
    if converts(node.operator):
        return KINDS[2]
    if node.dtype is None:
        return KINDS[3]
    return KINDS[1] if "float" in node.dtype else KINDS[0]
