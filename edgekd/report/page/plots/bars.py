"""Lying bars, each in parts of one colour a kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt
from markupsafe import Markup

from edgekd.report.page.plots.svg import WIDTH, to_svg

_ROW = 22  # pixels
_TOLD = 5  # bars that the plot's own description names; the table below has all
_LABELS, _LONGEST = 175, 26  # pixels and letters of the names, the same in every plot so that all begin in one line


@dataclass(frozen=True)
class Bar:
    """A bar: its name, the length of its part of every kind, and what stands at its end."""

    name: str
    parts: dict[str, float]
    text: str


def bars(rows: Sequence[Bar], colours: Mapping[str, str], title: str, about: str) -> Markup:
    """Return the plot, bars from top to bottom, their parts in the order of the colours, which kinds have."""
    kinds = [kind for kind in colours if any(kind in bar.parts for bar in rows)]
    labels = _labels([bar.name for bar in rows])
    parts = [
        {
            "name": label,
            "kind": kind,
            "length": bar.parts[kind],
            "order": number,
            "about": f"{bar.name}, {kind}: {bar.text}",
        }
        for label, bar in zip(labels, rows, strict=True)
        for number, kind in enumerate(kinds)
        if kind in bar.parts
    ]
    ends = [
        {"name": label, "length": sum(bar.parts.values()), "text": bar.text}
        for label, bar in zip(labels, rows, strict=True)
    ]
    longest = max(sum(bar.parts.values()) for bar in rows) or 1.0
    names = alt.Y(
        "name:N",
        title=None,
        axis=alt.Axis(ticks=False, domain=False, minExtent=_LABELS, labelLimit=0),
        scale=alt.Scale(domain=labels, padding=0.25),
    )
    lengths = alt.X(
        "length:Q", title=title, scale=alt.Scale(domain=[0, 1.25 * longest], nice=False), axis=alt.Axis(tickCount=5)
    )
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=[colours[kind] for kind in kinds]),
        legend=alt.Legend() if len(kinds) > 1 else None,
    )
    drawn = alt.Chart(alt.InlineData(values=parts)).mark_bar()
    drawn = drawn.encode(x=lengths, y=names, color=colour, order="order:Q", description="about:N")
    texts = (
        alt.Chart(alt.InlineData(values=ends)).mark_text(align="left", dx=5).encode(x=lengths, y=names, text="text:N")
    )
    first = "; ".join(f"{bar.name} {bar.text}" for bar in rows[:_TOLD])
    return to_svg(alt.layer(drawn, texts).properties(width=WIDTH, height=_ROW * len(rows)), f"{about} {first}")


def _labels(names: Sequence[str]) -> list[str]:
    """Return names that fit and differ: of a long one its end, of an equal one its number too."""
    found: list[str] = []
    for name in names:
        short = name if len(name) <= _LONGEST else f"…{name[-_LONGEST:]}"
        again = sum(one == short or one.startswith(f"{short} (") for one in found)
        found.append(f"{short} ({again + 1})" if again else short)
    return found
