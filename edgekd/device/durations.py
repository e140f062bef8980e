"""Durations as people write them: `10`, `10s`, `5m`, `1h`."""

import re

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_S = 86_400.0
LIMIT_S = 600.0  # after which a process that runs a model is ended, where nobody says another time


def seconds(text: str) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: It is none, 0, or longer than a day.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    value = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0.0 < value <= LONGEST_S:
        raise ValueError(f"{text!r} is no duration above 0 and up to a day, such as 10, 10s, 5m or 1h")
    return value
