"""Files of sysfs that hold one text or number each."""

from pathlib import Path

from ..errors import CheckFailed


def text(path: Path) -> str:
    """Return the text of a file without the line's end.

    Raises:
        CheckFailed: It cannot be read.
    """
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except PermissionError as error:
        raise CheckFailed(f"{path} may not be read: run as root, or allow it with `chmod a+r {path}`") from error
    except OSError as error:
        raise CheckFailed(f"{path} cannot be read: {error.strerror}") from error


def number(path: Path) -> float:
    """Return the whole number in a file.

    Raises:
        CheckFailed: It cannot be read, or holds no number.
    """
    content = text(path)
    try:
        return float(int(content))
    except ValueError as error:
        raise CheckFailed(f"{path} holds no number: {content!r}") from error
