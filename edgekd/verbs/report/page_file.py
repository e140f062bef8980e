"""Where the page goes: nothing but another page is overwritten, and nothing is put into an artifact."""

from pathlib import Path

from edgekd.device.manifest import MANIFEST_NAME
from edgekd.errors import InputError
from edgekd.verbs.artifact_path import artifact_folders

_BEGINNING = b"<!doctype html"


def check_page_file(path: Path) -> None:
    """Check that a page may be written, before the work that it takes.

    Raises:
        InputError: it is there and is no HTML page nor empty, but a file of the run, say, or one that the page is made of; or
            its folder cannot be made, or belongs to an artifact, which goes to the device as it is.
    """
    folder = next(one for one in path.absolute().parents if one.exists())
    if not folder.is_dir():
        raise InputError(f"cannot write {path}: {folder} is no folder; choose another -o")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file that can be overwritten; choose another -o")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(_BEGINNING)).lower() not in (_BEGINNING, b""):
                raise InputError(f"{path} exists and is no HTML page; it is left as it is: choose another -o")
    for one in path.resolve().parents:
        if (one / MANIFEST_NAME).is_file() or (one.name == "artifact" and artifact_folders(one)):
            raise InputError(f"{path} would go to the device with the artifact in {one}; choose another -o")
