"""The known name that a person may have meant."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'ms'?`, or nothing where no known name is near."""
    by_lower = {one.lower(): one for one in known if one}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.4)
    return f", did you mean {by_lower[found[0]]!r}?" if found else ""
