"""The terminal: messages and progress on stderr, results on stdout; plain and quiet in a pipe."""

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from edgekd.device import streams

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_WIDTH_IN_A_PIPE = 10_000  # nobody reads it by eye there: no line is broken, no cell cut


class _Plain(Console):
    """A console for text from anywhere: no markup, no emoji codes, and nothing that moves a terminal's cursor."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text as it is, control characters shown as escapes."""
        visible = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
        return super().render_str(visible, **{**options, "markup": False, "emoji": False})

    def on_broken_pipe(self) -> None:
        """Let results go nowhere whose reader went away; where nobody follows the work either, `edgekd.cli.main` ends it.

        Raises:
            BrokenPipeError: this is the console of messages.
        """
        if self.stderr:
            raise BrokenPipeError
        streams.drop_output()


def _made(*, stderr: bool) -> _Plain:
    on_terminal = Console(stderr=stderr).is_terminal
    width = None if on_terminal else _WIDTH_IN_A_PIPE
    return _Plain(stderr=stderr, highlight=False, soft_wrap=not on_terminal, width=width)


messages = _made(stderr=True)
results = _made(stderr=False)


def say(message: str) -> None:
    """Show one line of what is going on."""
    messages.print(message, style="dim" if messages.is_terminal else None)


def warn(message: str) -> None:
    """Show one line that a person should not miss."""
    messages.print(message, style="yellow" if messages.is_terminal else None)


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
    """Print JSON on stdout, for machines; a number that is not finite becomes null."""
    streams.show(json.dumps(_finite(value), indent=1, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table; columns whose name begins with `>` are right-aligned."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", title_style="bold")
    for column in columns:
        made.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return made


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table on stdout, or nothing where it has no rows."""
    if rows:
        made = table(*columns, title=title)
        for row in rows:
            made.add_row(*row)
        results.print(made)


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return `1 layer`, `2 layers`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def time_in_words(seconds: float | None) -> str:
    """Return a rough time: `20 s`, `3 min`, `1.5 h`."""
    if seconds is None:
        return "not known"
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
