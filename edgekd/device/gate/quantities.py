"""Quantities as people write them, with their units: `20ms`, `50mJ`, `1.5MiB`, `1 point`, `2.5M` instructions."""

import math
import re
from typing import Any

from ..errors import DeviceError
from ..nearest import nearest

UNITS = {  # by dimension: how many of the unit in which figures are kept, which is the first
    "time": {"ms": 1.0, "us": 1e-3, "s": 1e3},
    "energy": {"mJ": 1.0, "uJ": 1e-3, "J": 1e3},
    "bytes": {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20},
    "accuracy": {"points": 1.0, "%": 1.0},
    "count": {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9},
}
_EXAMPLES = {"time": "20ms", "energy": "50mJ", "bytes": "4MB", "accuracy": "1%", "count": "2.5M"}
_SCALES = {
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (0.0, "B")),
    "count": ((1e9, "G"), (1e6, "M"), (1e3, "k"), (0.0, "")),
    "time": ((1e3, "s"), (0.1, "ms"), (0.0, "us")),
    "energy": ((1e3, "J"), (0.1, "mJ"), (0.0, "uJ")),
}


def unit_of(dimension: str) -> str:
    """Return the unit in which figures of this dimension are kept."""
    return next(iter(UNITS[dimension]))


def quantity(written: Any, dimension: str, where: str) -> float:
    """Return what was written, in the unit in which figures of this dimension are kept.

    Raises:
        DeviceError: It is no finite number of 0 or more with a known unit; the message begins with `where` and names the units.
    """
    units = UNITS[dimension]
    known = ", ".join(filter(None, units)) + (" or none" if "" in units else "")
    example = _EXAMPLES[dimension]
    plain = isinstance(written, (int, float)) and not isinstance(written, bool)
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*(\S*)\s*", str(written))
    if found is None or not (plain or isinstance(written, str)):
        raise DeviceError(f"{where}: {written!r} is no number of 0 or more with a unit, such as {example}")
    number, unit = found.groups()
    if unit not in units:
        if not unit:
            raise DeviceError(f"{where}: {written!r} lacks its unit: write it as {example}; known: {known}")
        raise DeviceError(f"{where}: unknown unit {unit!r} in {written!r}{nearest(unit, units)}; known: {known}")
    value = float(number) * units[unit]
    if not math.isfinite(value):
        raise DeviceError(f"{where}: {written!r} is too large; write it as {example}")
    return value


def shown(value: float, dimension: str) -> str:
    """Return a value with four digits and the unit that suits it."""
    rounded = abs(float(f"{value:.4g}"))
    for least, unit in _SCALES.get(dimension, ()):
        if rounded >= least:
            return f"{value / UNITS[dimension][unit]:.4g} {unit}".rstrip()
    return f"{value:.4g} {unit_of(dimension)}".rstrip()
