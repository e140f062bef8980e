"""Files that are either whole or not there: hashes, atomic writes, folders that appear in one step."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekd.device.files import place_of

PARTIAL = ".partial-"  # how the names of what is being written begin
_UMASK = os.umask(0)
os.umask(_UMASK)  # the only way to read it
_MODE = 0o666 & ~_UMASK  # of a file that is written in the usual way; a temporary one is its owner's alone


def sha256(path: Path) -> str:
    """Return the hash of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Return the hash of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write a text file; a reader, or a restart after a kill, sees the old content or the new, never a part.

    A link stays one, and what it leads to is written.

    Raises:
        FileExistsError: the path is a device or a pipe.
    """
    path = place_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f"{PARTIAL}{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(_MODE)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, json.dumps(value, indent=1) + "\n")


@contextlib.contextmanager
def folder_in_one_step(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write into; it takes the name `folder` only when the block ends well.

    A folder of that name is replaced. What a killed process left behind begins with `.partial-`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{folder.name}-", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)
        for path in partial.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{folder.name}-old-", dir=folder.parent))
            os.replace(folder, old / folder.name)
            os.replace(partial, folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def remove_partial(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder and below."""
    for path in sorted(folder.rglob(f"{PARTIAL}*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
