"""The page, put together and turned into HTML; every text is escaped by the template."""

import json
import time
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edgekd.report.page.sections.boards import boards
from edgekd.report.page.sections.layers import layers
from edgekd.report.page.sections.origins import origins
from edgekd.report.page.sections.sensitivity import sensitivity
from edgekd.report.page.sections.settings import settings
from edgekd.report.page.sections.sizes import sizes
from edgekd.report.page.sections.stages import stages
from edgekd.report.page.sections.summary import summary
from edgekd.report.page.text import visible
from edgekd.verbs.report import Content

SECTIONS = (summary, stages, layers, sizes, sensitivity, boards, origins, settings)


def render(content: Content) -> str:
    """Return the page as HTML: one file, no script, nothing that is loaded from anywhere."""
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["kind"] = lambda block: type(block).__name__
    first = content.targets[0].report
    return environment.get_template("page.html").render(
        title=f"{first.model.name} for {', '.join(target.report.target for target in content.targets)}",
        edgekd=first.edgekd,
        written=time.strftime("%Y-%m-%d"),
        style=Markup((folder / "page.css").read_text(encoding="utf-8")),
        targets=[(target.report, [section(target) for section in SECTIONS]) for target in content.targets],
        data=Markup(_embedded(content.to_json())),
    )


def _embedded(value: Any) -> str:
    """Return JSON that may stand inside an element: nothing in it can end the element or open another."""
    text = json.dumps(value, indent=1)
    for one in "<>&":
        text = text.replace(one, f"\\u{ord(one):04x}")
    return text
