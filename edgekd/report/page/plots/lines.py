"""What a long run does over time: one line a quantity, below each other where their units differ."""

from collections.abc import Sequence

import altair as alt
from markupsafe import Markup

from edgekd.report.page.plots.svg import FIRST, SECOND, WIDTH, to_svg

HEIGHT = 130


def lines(ends: Sequence[float], unit: str, quantities: dict[str, Sequence[float | None]], label: str) -> Markup:
    """Return the plot; the quantities, named with their units, have a value at the end of every window, None where nobody read it."""
    panels = []
    for number, (title, values) in enumerate(quantities.items()):
        rows = [{"at": at, "value": value} for at, value in zip(ends, values, strict=True) if value is not None]
        x = alt.X("at:Q", title=unit, scale=alt.Scale(domain=[0, max(ends)]), axis=alt.Axis(grid=False, tickCount=6))
        y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=number == 0), axis=alt.Axis(tickCount=4, minExtent=40))
        line = alt.Chart(alt.InlineData(values=rows)).encode(x=x, y=y).mark_line(
            color=(FIRST, SECOND)[number % 2], point=alt.OverlayMarkDef(color=(FIRST, SECOND)[number % 2])
        )  # fmt: skip
        panels.append(line.properties(width=WIDTH, height=HEIGHT))
    return to_svg(alt.vconcat(*panels), label)
