"""Where the page goes: nothing but another page is overwritten."""

from pathlib import Path

from edgekd.errors import InputError

_BEGINNING = b"<!doctype html"


def check_page_file(path: Path) -> None:
    """Check that a page may be written, before the work that it takes.

    Raises:
        InputError: it is there and is no HTML page nor empty, but a file of the run, say, or one that the page is made of; or
            its folder cannot be made.
    """
    folder = next(one for one in path.absolute().parents if one.exists())
    if not folder.is_dir():
        raise InputError(f"cannot write {path}: {folder} is no folder; choose another -o")
    if not path.exists():
        return
    if not path.is_file():
        raise InputError(f"{path} is no file that can be overwritten; choose another -o")
    with path.open("rb") as file:
        if file.read(len(_BEGINNING)).lower() not in (_BEGINNING, b""):
            raise InputError(f"{path} exists and is no HTML page; it is left as it is: choose another -o")
