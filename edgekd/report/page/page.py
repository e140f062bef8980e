"""The page, put together and turned into HTML; every text is escaped by the template."""

import json
import re
import time
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edgekd.report.page import blocks
from edgekd.report.page.sections.boards import boards
from edgekd.report.page.sections.layers import layers
from edgekd.report.page.sections.origins import origins
from edgekd.report.page.sections.sensitivity import sensitivity
from edgekd.report.page.sections.settings import settings
from edgekd.report.page.sections.sizes import sizes
from edgekd.report.page.sections.stages import stages
from edgekd.report.page.sections.summary import summary
from edgekd.verbs.report import Content

SECTIONS = (summary, stages, layers, sizes, sensitivity, boards, origins, settings)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # the last ones turn text around


def render(content: Content) -> str:
    """Return the page as HTML: one file, no script, nothing that is loaded from anywhere."""
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    kinds = {kind.__name__.lower(): kind for kind in blocks.Block.__args__}
    environment.tests.update({name: lambda block, kind=kind: isinstance(block, kind) for name, kind in kinds.items()})
    first = content.targets[0].report
    return environment.get_template("page.html").render(
        title=f"{first.model.name} for {', '.join(target.report.target for target in content.targets)}",
        edgekd=first.edgekd,
        written=time.strftime("%Y-%m-%d"),
        style=Markup((folder / "page.css").read_text(encoding="utf-8")),
        targets=[(target.report, [section(target) for section in SECTIONS]) for target in content.targets],
        data=Markup(_embedded(content.to_json())),
    )


def _visible(value: Any) -> Any:
    """Return a text with control characters as escapes; what is HTML already, and numbers, stay."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value)


def _embedded(value: Any) -> str:
    """Return JSON that may stand inside an element: nothing in it can end the element or open another."""
    text = json.dumps(value, indent=1)
    for one in "<>&":
        text = text.replace(one, f"\\u{ord(one):04x}")
    return text
