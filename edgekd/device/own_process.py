"""A Python process that runs a module of this package, out of the same folders or `run.pyz` as this one."""

import json
import sys

_CODE = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "importlib.import_module(sys.argv[2]).main(*sys.argv[3:])"
)


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that calls the function `main` of a module with these arguments."""
    return [sys.executable, "-c", _CODE, json.dumps(sys.path), module, *arguments]
