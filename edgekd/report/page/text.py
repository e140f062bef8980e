"""Text from anywhere, made harmless: names in a run may hold anything."""

import re
from typing import Any

from markupsafe import Markup

_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # the last ones turn text around


def visible(value: Any) -> Any:
    """Return a text, or every text in dictionaries and lists, with hidden characters as escapes; the rest stays."""
    if isinstance(value, dict):
        return {key: visible(item) for key, item in value.items()}
    if isinstance(value, list):
        return [visible(item) for item in value]
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _HIDDEN.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
