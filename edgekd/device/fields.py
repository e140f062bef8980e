"""Take a JSON object apart field by field; the message for a wrong one says where it is and what it must be.

A check is a function `(value, where) -> checked value` that raises DeviceError.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .errors import DeviceError

T = TypeVar("T")


class Fields:
    """A JSON object of which every field must be taken."""

    def __init__(self, content: Any, where: str) -> None:
        """Start on `content`; `where` names it in messages."""
        self._left = dict(mapping(content, where))
        self._where = where

    def take(self, key: str, check: Callable[[Any, str], T]) -> T:
        """Remove a field and return its checked value."""
        if key not in self._left:
            raise DeviceError(f"{self._where} lacks {key!r}")
        return check(self._left.pop(key), f"{self._where}: {key}")

    def finish(self) -> None:
        """Refuse the fields that nobody took."""
        if self._left:
            raise DeviceError(f"{self._where} has unknown fields: {', '.join(map(repr, sorted(self._left)))}")


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Accept a JSON object."""
    return value if isinstance(value, dict) else _refuse(value, where, "an object")


def text(value: Any, where: str) -> str:
    """Accept a text that is not empty and can be written as UTF-8."""
    if not isinstance(value, str) or not value or any("\ud800" <= letter <= "\udfff" for letter in value):
        _refuse(value, where, "a text")
    return str(value)


def number(value: Any, where: str) -> float:
    """Accept a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 1e300:
        _refuse(value, where, "a number")
    return float(value)


def amount(value: Any, where: str) -> float:
    """Accept a finite number of 0 or more."""
    result = number(value, where)
    return result if result >= 0 else _refuse(value, where, "0 or more")


def share(value: Any, where: str) -> float:
    """Accept a number from 0 to 1."""
    result = number(value, where)
    return result if 0.0 <= result <= 1.0 else _refuse(value, where, "between 0 and 1")


def count(value: Any, where: str) -> int:
    """Accept a whole number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _refuse(value, where, "a whole number, 0 or more")
    return int(value)


def flag(value: Any, where: str) -> bool:
    """Accept true or false."""
    return value if isinstance(value, bool) else _refuse(value, where, "true or false")


def sha256(value: Any, where: str) -> str:
    """Accept a SHA-256 in lower-case hex."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        _refuse(value, where, "64 lower-case hex digits")
    return str(value)


def file_name(value: Any, where: str) -> str:
    """Accept the name of a file that lies directly in the artifact folder."""
    name = text(value, where)
    if name in (".", "..") or not name.isprintable() or any(letter in name for letter in "/\\:"):
        _refuse(name, where, "the plain name of a file in the artifact folder")
    return name


def one_of(*choices: str) -> Callable[[Any, str], str]:
    """Accept one of these texts."""

    def check(value: Any, where: str) -> str:
        return str(value) if value in choices else str(_refuse(value, where, " or ".join(choices)))

    return check


def list_of(item: Callable[[Any, str], T]) -> Callable[[Any, str], tuple[T, ...]]:
    """Accept a list, not empty, whose items pass."""

    def check(value: Any, where: str) -> tuple[T, ...]:
        if not isinstance(value, list) or not value:
            _refuse(value, where, "a list that is not empty")
        return tuple(item(one, f"{where}[{index}]") for index, one in enumerate(value))

    return check


def optional(check: Callable[[Any, str], T]) -> Callable[[Any, str], T | None]:
    """Accept null as well."""
    return lambda value, where: None if value is None else check(value, where)


def _refuse(value: Any, where: str, expected: str) -> Any:
    shown = repr(value)
    raise DeviceError(f"{where} must be {expected}, not {shown if len(shown) <= 60 else shown[:57] + '...'}")
