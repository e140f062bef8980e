"""A Python process that runs a module of this package, out of the same folders or `run.pyz` as this one; and how this one ends."""

import json
import signal
import sys

_CODE = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "importlib.import_module(sys.argv[2]).main(*sys.argv[3:])"
)


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that calls the function `main` of a module with these arguments."""
    return [sys.executable, "-c", _CODE, json.dumps(sys.path), module, *arguments]


def end_undisturbed() -> None:
    """Let nothing interrupt the end of this process: it is interrupted already, and a shell may signal it twice."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def end_as_interrupted() -> None:
    """Let SIGTERM end this process as Ctrl-C does: temporary folders and the processes that it has started go with it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
