"""The user's own code, named `package.module:function` on the command line."""

import hashlib
import importlib
import inspect
import os
import sys
from pathlib import Path
from typing import Any

from edgekd.errors import InputError


def import_object(name: str) -> Any:
    """Return the object that `package.module:object` names; the working folder is searched as `python -m` does.

    Raises:
        InputError: the name has another form, the module cannot be imported, or it has no such object.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise InputError(f"{name!r} is not package.module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may raise anything
        raise InputError(f"cannot import {module_name}: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise InputError(f"module {module_name} has no {attribute!r}")
    return getattr(module, attribute)


def code_digest(*objects: Any) -> str:
    """Return the hash of the source files that define these functions and classes; what has no file has no part in it."""
    files = set()
    for thing in objects:
        try:
            files.add(inspect.getsourcefile(thing))
        except TypeError:  # built in, or made at run time
            continue
    sha = hashlib.sha256()
    for file in sorted(file for file in files if file and Path(file).is_file()):
        sha.update(Path(file).read_bytes())
    return sha.hexdigest()
