"""Hash, read or lock a file; write one so that a killed process leaves the old file or the new one, never half of one."""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import DeviceError

_CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256 as 64 lower-case hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read_json(path: Path, missing: str | None = None) -> Any:
    """Return what a JSON file holds.

    Args:
        path: Of the file.
        missing: What to say where there is none; by default that it cannot be read.

    Raises:
        DeviceError: It cannot be read or is no JSON.
    """
    refuse_no_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            raise DeviceError(missing) from error
        raise DeviceError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DeviceError(f"{path} is not valid JSON: {error}") from error


def refuse_no_file(path: Path) -> None:
    """Check that what is to be read is no folder, device or pipe, which may never end.

    Raises:
        DeviceError: It is.
    """
    if path.exists() and not path.is_file():
        raise DeviceError(f"cannot read {path}: it is no file")


def check_place_of(path: Path) -> None:
    """Check that a file can be written, before the work whose result it will hold.

    Raises:
        DeviceError: Its folder does not exist or cannot be written, or it is a folder, a device or a pipe itself.
    """
    if path.is_dir():
        raise DeviceError(f"cannot write {path}: it is a folder")
    try:
        place_of(path)
    except FileExistsError as error:
        raise DeviceError(f"cannot write {path}: {error.strerror}") from error
    if not path.parent.is_dir():
        raise DeviceError(f"cannot write {path}: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise DeviceError(f"cannot write {path}: the folder {path.parent} is not writable")


def place_of(path: Path) -> Path:
    """Return where a file is to be written: what a link leads to.

    Raises:
        FileExistsError: There is a device or a pipe, whose place a file would take.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():
        raise FileExistsError(errno.EEXIST, "it is no regular file", str(path))
    return place


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, then move it into place; a link stays one, and what it leads to is written.

    Raises:
        DeviceError: The folder does not exist or cannot be written, or the path is a device or a pipe.
    """
    try:
        place = place_of(path)
        beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        try:
            with open(beside, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(beside, place)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise DeviceError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time change the files in a file's folder; without effect where the system has no such locks."""
    try:
        import fcntl

        folder = os.open(path.resolve().parent, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
