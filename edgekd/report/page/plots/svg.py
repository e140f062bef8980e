"""A chart becomes SVG."""

import re
from typing import Any

import altair
import vl_convert
from markupsafe import Markup, escape

from edgekd.report.page.text import visible

# Colours are those of the page's style sheet, so that they follow it into the dark.
INK, MUTED, RULE, GROUND = "var(--ink)", "var(--muted)", "var(--rule)", "var(--ground)"
FIRST, SECOND, THIRD, FOURTH = "var(--first)", "var(--second)", "var(--third)", "var(--fourth)"
WIDTH = 620  # of what is inside the axes, in pixels
_AXIS = {
    "domainColor": RULE, "gridColor": RULE, "tickColor": RULE, "labelColor": INK, "titleColor": INK, "titleFontWeight": "normal",
    "labelFontSize": 12, "titleFontSize": 12, "labelLimit": 230, "titlePadding": 8, "gridOpacity": 0.6,
}  # fmt: skip
_CONFIG: dict[str, Any] = {
    "background": "transparent", "font": "Arial, Helvetica, Liberation Sans, sans-serif", "view": {"stroke": None}, "axis": _AXIS,
    "legend": {"labelColor": INK, "titleColor": INK, "orient": "top", "labelFontSize": 12, "symbolType": "square", "columnPadding": 30, "title": None},
    "text": {"color": INK, "fontSize": 12},
}  # fmt: skip


def to_svg(chart: altair.TopLevelMixin, label: str) -> Markup:
    """Return a chart as an SVG element that says what it is; nothing is loaded from anywhere."""
    specification = visible({**chart.to_dict(), "config": _CONFIG})  # a NUL ends the process in vl-convert
    text: str = vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])
    head, _, rest = text.partition(">")
    width = re.search(r'\bwidth="(\d+)"', head)
    style = f' style="width:{width[1]}px"' if width else ""
    head = re.sub(r' (width|height|xmlns\S*|version)="[^"]*"', "", head)
    return Markup(f'{head} role="img" aria-label="{escape(visible(label))}"{style}>{rest}')
