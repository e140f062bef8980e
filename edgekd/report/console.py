"""The terminal: messages and progress on stderr, results on stdout; plain and quiet in a pipe."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

messages = Console(stderr=True, highlight=False, soft_wrap=True)
results = Console(highlight=False, soft_wrap=not Console().is_terminal, width=None if Console().is_terminal else 200)


def say(message: str) -> None:
    """Show one line of what is going on."""
    messages.print(message, style="dim" if messages.is_terminal else None, markup=False)


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left, on a terminal only."""
    if not messages.is_terminal:
        yield lambda steps: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)


def print_json(value: Any) -> None:
    """Print JSON on stdout, for machines."""
    print(json.dumps(value, indent=1))


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table; columns whose name begins with `>` are right-aligned."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return made
