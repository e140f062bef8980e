r"""A long run: does the board keep the speed that it begins with?

```
|- window -|- window -|- window -| ... |- window -|     calls back to back, one window a minute
   first                          \__ steady state: the last quarter of the windows __/
```
A board without enough cooling heats up and lowers its clock; what counts on the device is the steady state.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .latency import Clock, garbage_collection_off, timed_calls, warm_up
from .machine import Machine

WINDOW_S = 60.0
FEWEST_WINDOWS = 4


def sustain(
    run: Callable[[], object],
    duration_s: float,
    read: Callable[[], Machine],
    *,
    say: Callable[[str], None] = lambda message: None,
    warmup_s: float = 5.0,
    clock: Clock = time.perf_counter_ns,
) -> dict[str, Any]:
    """Call for a long time; return every window's median and p95, and the first against the steady state.

    Args:
        run: One call; what it returns is ignored.
        duration_s: In seconds; below four minutes windows are a quarter of it.
        read: Reads the machine's state, at the end of each window.
        say: Takes a line after each window.
        warmup_s: Longest time for the warm-up, in seconds.
        clock: Nanoseconds; replaced in tests.
    """
    window_ns = min(WINDOW_S, duration_s / FEWEST_WINDOWS) * 1e9
    windows: list[dict[str, Any]] = []
    with garbage_collection_off():
        warm_up(run, limit_s=warmup_s, clock=clock)
        began = clock()
        while clock() - began < duration_s * 1e9 - window_ns / 2:
            windows.append(_window(run, began, window_ns, read, clock))
            say(f"sustained: {windows[-1]['to_s']:.3g} of {duration_s:g} s, p50 {windows[-1]['p50_ms']:.4g} ms")
    steady = windows[-max(1, len(windows) // 4) :]
    first_ms, steady_ms = windows[0]["p50_ms"], float(np.median([one["p50_ms"] for one in steady]))
    return {
        "windows": windows,
        "first_p50_ms": first_ms,
        "steady_p50_ms": steady_ms,
        "slowdown_percent": 100 * (steady_ms / first_ms - 1),
    }


def _window(
    run: Callable[[], object], began: int, window_ns: float, read: Callable[[], Machine], clock: Clock
) -> dict[str, Any]:
    opened = clock()
    times = np.asarray(timed_calls(run, window_ns, clock)) / 1e6
    closed, state = clock(), read()
    return {
        "from_s": (opened - began) / 1e9,
        "to_s": (closed - began) / 1e9,
        "calls": len(times),
        "p50_ms": float(np.median(times)),
        "p95_ms": float(np.quantile(times, 0.95)),
        "temperature_celsius": state.temperature_celsius,
        "clock_mhz": state.clock_mhz,
        "throttled": state.throttled,
    }
