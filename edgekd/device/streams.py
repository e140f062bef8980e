"""Standard output and error that are closed, or whose reader has gone."""

import contextlib
import os
import sys


def open_closed() -> None:
    """Let what is printed go nowhere where a person closed standard output or error (`>&-`): Python has None there."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # open as long as the process lives


def drop_output() -> None:
    """Let what is still to be written to standard output go nowhere, so that ending the process does not fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
