"""How much of a call the runtime takes by its own clock. The rest is the way from Python into it and back, and copies."""

import time
from typing import Any

import numpy as np

from .arrays import Array
from .latency import garbage_collection_off
from .runtimes.session import Session

_CALLS, _LONGEST_S = 100, 2.0


def inside_runtime(session: Session, feeds: dict[str, Array], p50_ms: float) -> dict[str, Any] | None:
    """Return the share of a call that is inside of the runtime, and what that is of p50; None for a runtime without a clock.

    Args:
        session: A warm one.
        feeds: The inputs of a call.
        p50_ms: Of the whole call, in milliseconds.
    """
    if session.own_ms() is None:
        return None
    shares: list[float] = []
    until = time.monotonic() + _LONGEST_S
    with garbage_collection_off():
        while len(shares) < _CALLS and (not shares or time.monotonic() < until):
            started = time.perf_counter()
            session.run(feeds)
            whole_ms = (time.perf_counter() - started) * 1e3
            shares.append((session.own_ms() or 0.0) / whole_ms)
    share = float(np.median(shares))
    return {"share": share, "p50_ms": share * p50_ms, "calls": len(shares)}
