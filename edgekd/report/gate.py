"""The gate's table in the terminal."""

from typing import Any

from rich.text import Text

from edgekd.device.gate.outputs.table import HEADS, headline, notes, rows, verdict
from edgekd.report.console import results, table

_STYLES = {"pass": "green", "fail": "bold red"}
_OUTCOME = HEADS.index("outcome")


def show(result: dict[str, Any]) -> None:
    """Print the checks, what is to be known beside them, and the verdict."""
    found = rows(result)
    used = [index for index in range(len(HEADS)) if any(row[index] for row in found)]
    made = table(*(("" if index in (0, _OUTCOME) else ">") + HEADS[index] for index in used))
    for row in found:
        style = "dim" if row[_OUTCOME].startswith("(") else _STYLES.get(row[_OUTCOME], "yellow")
        made.add_row(*(Text(row[index], style if index == _OUTCOME else "") for index in used))
    results.print(headline(result))
    results.print(made)
    for note in notes(result):
        results.print(note)
    colour = {0: _STYLES["pass"], 1: _STYLES["fail"]}.get(result["exit_code"], "yellow")
    results.print(Text(verdict(result), colour))
