"""Does an installed version meet a requirement such as `>=1.20,<2`? Enough of PEP 440 for released versions."""

import operator
import re

from .errors import DeviceError

_COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_CLAUSE = re.compile(r"\s*(==|!=|>=|<=|>|<)\s*(\d+(?:\.\d+)*)\s*")


def satisfies(installed: str, requirement: str) -> bool:
    """Return whether `installed` meets every comma-separated clause; an empty requirement is always met.

    Only the leading numbers of `installed` count: 1.23.2+cpu is 1.23.2.

    Raises:
        DeviceError: The requirement cannot be read.
    """
    have = _numbers(installed)
    for clause in filter(str.strip, requirement.split(",")):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise DeviceError(f"cannot read the version requirement {requirement!r}; write it as '>=1.20,<2'")
        want = _numbers(match[2])
        length = max(len(have), len(want))
        if not _COMPARE[match[1]](_padded(have, length), _padded(want, length)):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    leading = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in leading[0].split(".")) if leading else ()


def _padded(numbers: tuple[int, ...], length: int) -> tuple[int, ...]:
    return numbers + (0,) * (length - len(numbers))
