"""The terminal's table, in plain text."""

from typing import Any

from ..figures import KINDS
from ..quantities import shown
from .table import HEADS, headline, notes, rows, verdict

_TO_THE_LEFT = (0, 6)


def text(result: dict[str, Any]) -> str:
    """Return the checks as a table, what is to be known beside it, and the verdict."""
    table = [HEADS, *rows(result)]
    used = [index for index in range(len(HEADS)) if any(row[index] for row in table[1:])]
    widths = {index: max(len(row[index]) for row in table) for index in used}
    lines = [
        "  ".join(f"{row[i]:<{widths[i]}}" if i in _TO_THE_LEFT else f"{row[i]:>{widths[i]}}" for i in used).rstrip()
        for row in table
    ]
    return "\n".join([headline(result), *lines, *notes(result), verdict(result)])


def baseline_text(entry: dict[str, Any]) -> str:
    """Return what was written into a baseline file."""
    key, figures = entry["key"], entry["figures"]
    lines = [f"{key['model']} on {key['cpu']}, {key['runtime']} {key['runtime_version']}, threads {key['threads']}"]
    for name, figure in figures.items():
        dimension = KINDS[name].dimension
        ends = [figure["low"], figure["high"]]
        interval = "" if None in ends else f"  ({' to '.join(shown(end, dimension) for end in ends)})"
        lines.append(f"  {name:<14}{shown(figure['value'], dimension)}{interval}")
    return "\n".join(
        [*lines, *(f"warning: disturbed: {note}" for note in entry["warnings"]), f"written to {entry['file']}"]
    )
