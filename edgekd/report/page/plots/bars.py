"""Lying bars, each in parts of one colour a kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
from markupsafe import Markup

from edgekd.report.page.plots.svg import FIRST, FOURTH, SECOND, THIRD, WIDTH, to_svg

_COLOURS = (FIRST, SECOND, THIRD, FOURTH)
_ROW = 22  # pixels


@dataclass(frozen=True)
class Bar:
    """A bar: its name, the length of its part of every kind, and what stands at its end."""

    name: str
    parts: dict[str, float]
    text: str


def bars(rows: Sequence[Bar], kinds: Sequence[str], title: str, label: str) -> Markup:
    """Return the plot, with bars from top to bottom and parts in the order of the kinds, four at most."""
    parts = [
        {
            "name": bar.name,
            "kind": kind,
            "length": bar.parts[kind],
            "order": number,
            "about": f"{bar.name}, {kind}: {bar.text}",
        }
        for bar in rows
        for number, kind in enumerate(kinds)
        if kind in bar.parts
    ]
    ends = [{"name": bar.name, "length": sum(bar.parts.values()), "text": bar.text} for bar in rows]
    longest = max(sum(bar.parts.values()) for bar in rows) or 1.0
    names = alt.Y(
        "name:N",
        title=None,
        axis=alt.Axis(ticks=False, domain=False),
        scale=alt.Scale(domain=[bar.name for bar in rows], padding=0.25),
    )
    lengths = alt.X(
        "length:Q", title=title, scale=alt.Scale(domain=[0, 1.25 * longest], nice=False), axis=alt.Axis(tickCount=5)
    )
    colours = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=list(kinds), range=list(_COLOURS[: len(kinds)])),
        legend=alt.Legend() if len(kinds) > 1 else None,
    )
    drawn = alt.Chart(alt.InlineData(values=parts)).mark_bar()
    drawn = drawn.encode(x=lengths, y=names, color=colours, order="order:Q", description="about:N")
    texts = (
        alt.Chart(alt.InlineData(values=ends)).mark_text(align="left", dx=5).encode(x=lengths, y=names, text="text:N")
    )
    return to_svg(alt.layer(drawn, texts).properties(width=WIDTH, height=_ROW * len(rows)), label)
