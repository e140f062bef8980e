"""The score of every stage against its latency, with 95 % intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
from markupsafe import Markup

from edgekd.report.page.plots.svg import FIRST, GROUND, MUTED, WIDTH, to_svg

HEIGHT = 300
_LINE = 21  # pixels from label to label, so that the interval of a point lies between them
_WIDEST = 1.5  # times the highest latency: intervals that reach further end at the edge


@dataclass(frozen=True)
class Point:
    """A stage, or several that left the same file: latency in ms and score, each with the ends of its interval."""

    stages: tuple[str, ...]
    text: str
    ms: float
    ms_low: float
    ms_high: float
    score: float
    score_low: float
    score_high: float

    @property
    def name(self) -> str:
        """Return what stands beside the point."""
        return ", ".join(self.stages)


def score_against_latency(points: Sequence[Point], score_title: str, latency_title: str, label: str) -> Markup:
    """Return the plot: points joined in the order of the stages, the last one filled."""
    highest = 1.04 * edge(points)
    low, high = min(point.score_low for point in points), max(point.score_high for point in points)
    room = 0.08 * (high - low) or 1.0
    bottom, top = low - room, high + room
    heights = _label_heights(points, (top - bottom) / HEIGHT)
    rows = [
        {
            **vars(point),
            "name": point.name,
            "order": number,
            "last": point is points[-1],
            "ms_high": min(point.ms_high, highest),
            "label": height,
        }
        for number, (point, height) in enumerate(zip(points, heights, strict=True))
    ]
    x = alt.X("ms:Q", title=latency_title, scale=alt.Scale(domain=[0, highest], nice=False), axis=alt.Axis(grid=False))
    y = alt.Y(
        "score:Q", title=score_title, scale=alt.Scale(domain=[bottom, top], nice=False), axis=alt.Axis(tickCount=6)
    )
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x, y=y)
    way = base.mark_line(color=MUTED, strokeDash=[2, 4], strokeWidth=1).encode(order="order:Q")
    across = base.mark_rule(color=FIRST, strokeWidth=1.5).encode(x="ms_low:Q", x2="ms_high:Q")
    along = base.mark_rule(color=FIRST, strokeWidth=1.5).encode(y="score_low:Q", y2="score_high:Q")
    fill = alt.condition("datum.last", alt.value(FIRST), alt.value(GROUND))
    marks = base.mark_point(size=70, stroke=FIRST, strokeWidth=2, filled=True, opacity=1).encode(
        fill=fill, stroke=alt.value(FIRST), description="text:N"
    )
    right = f"datum.ms > {0.75 * highest!r}"
    names = base.encode(text="name:N", y="label:Q")
    sides: dict[str, dict[str, Any]] = {
        f"!({right})": {"align": "left", "dx": 10},
        right: {"align": "right", "dx": -10},
    }
    clear: dict[str, Any] = {
        "stroke": GROUND,
        "strokeWidth": 4,
        "strokeJoin": "round",
    }  # what is behind a name does not run through it
    texts = [
        names.transform_filter(where).mark_text(**side, **look) for look in (clear, {}) for where, side in sides.items()
    ]
    layered = alt.layer(way, across, along, marks, *texts).properties(width=WIDTH, height=HEIGHT)
    return to_svg(layered, label)


def edge(points: Sequence[Point]) -> float:
    """Return where the plot ends, in ms: behind all intervals, but for those that would leave little room for the rest."""
    return min(max(point.ms_high for point in points), _WIDEST * max(point.ms for point in points))


def _label_heights(points: Sequence[Point], pixel: float) -> list[float]:
    """Return the heights of the labels, in the unit of the score: a little above their points, below labels that are near."""
    widest = edge(points)
    taken: list[float] = []
    for number, point in enumerate(points):
        near = [y for other, y in zip(points[:number], taken, strict=True) if abs(other.ms - point.ms) < 0.25 * widest]
        height = point.score + 9 * pixel
        for y in sorted(near, reverse=True):
            if abs(height - y) < _LINE * pixel:
                height = y - _LINE * pixel
        taken.append(height)
    return taken
