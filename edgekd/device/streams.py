"""Standard output and error that are closed, or whose reader has gone."""

import contextlib
import os
import sys


def open_closed() -> None:
    """Let what is printed go nowhere where a person closed standard output or error (`>&-`): Python has None there."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # open as long as the process lives


def show(text: str, *, stderr: bool = False) -> None:
    """Print a line; where its reader, such as `head`, has seen enough, the rest goes nowhere and the command ends as it would."""
    try:
        print(text, file=sys.stderr if stderr else sys.stdout, flush=True)
    except BrokenPipeError:
        drop_output(stderr=stderr)


def drop_output(*, stderr: bool = False) -> None:
    """Let what is still to be written to standard output, or error, go nowhere, so that ending the process does not fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), (sys.stderr if stderr else sys.stdout).fileno())
