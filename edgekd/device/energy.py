"""The energy of one call, by a sensor.

```
|-- at rest --|-- calls, back to back --| at rest |-- calls --| ... |     in rounds, so that a board that heats up heats both
     idle W              busy W             idle       busy
```
`total` is what flows while a call runs, divided by the calls: what a battery gives. `above idle` is without what the board
takes at rest: what the calls add. Each round gives one value of both; a figure is their mean with its 95 % interval
(Student's t).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .latency import garbage_collection_off
from .sensors.sensor import Sensor, Window

ROUNDS = 5
_T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}  # by rounds - 1


@dataclass(frozen=True)
class Energy:
    """The energy of one call, in millijoules; `low` and `high` are the ends of 95 % intervals.

    `covers` is what of the machine the sensor measures. Below zero, `above_idle` is lost in the noise of the sensor.
    """

    sensor: str
    covers: str
    calls: int
    seconds: float
    samples: int
    idle_w: float
    busy_w: float
    total_mj: float
    total_low_mj: float
    total_high_mj: float
    above_idle_mj: float
    above_idle_low_mj: float
    above_idle_high_mj: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def measure_energy(
    run: Callable[[], object],
    sensor: Sensor,
    *,
    duration_s: float = 10.0,
    idle_s: float = 5.0,
    rounds: int = ROUNDS,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Energy:
    """Measure the energy of a warm call.

    Args:
        run: One call; what it returns is ignored.
        sensor: What measures.
        duration_s: Of all calls together, in seconds.
        idle_s: At rest, in seconds, all rounds together.
        rounds: How many times rest and calls follow each other, from 2 to 10.
        sleep: Rests; replaced in tests.
        clock: Seconds; replaced in tests.

    Raises:
        CheckFailed: The sensor cannot be read, or gave too few samples.
    """
    idle, busy, calls = [], [], []
    with garbage_collection_off():
        for _ in range(rounds):
            sensor.begin()
            sleep(idle_s / rounds)
            idle.append(sensor.end())
            run()
            sensor.begin()
            calls.append(_calls(run, duration_s / rounds, clock))
            busy.append(sensor.end())
    return summarize(sensor, idle, busy, calls)


def summarize(sensor: Sensor, idle: Sequence[Window], busy: Sequence[Window], calls: Sequence[int]) -> Energy:
    """Return the figures of the windows at rest, those with calls, and how many calls each of them had."""
    total = [1e3 * window.joules / count for window, count in zip(busy, calls, strict=True)]
    above = [
        1e3 * (window.joules - rest.watts * window.seconds) / count
        for rest, window, count in zip(idle, busy, calls, strict=True)
    ]
    return Energy(
        sensor=sensor.name,
        covers=sensor.covers,
        calls=sum(calls),
        seconds=sum(window.seconds for window in busy),
        samples=sum(window.samples for window in (*idle, *busy)),
        idle_w=_mean_watts(idle),
        busy_w=_mean_watts(busy),
        **dict(zip(("total_mj", "total_low_mj", "total_high_mj"), _interval(total), strict=True)),
        **dict(zip(("above_idle_mj", "above_idle_low_mj", "above_idle_high_mj"), _interval(above), strict=True)),
    )


def _calls(run: Callable[[], object], seconds: float, clock: Callable[[], float]) -> int:
    began = clock()
    calls = 0
    while True:
        run()
        calls += 1
        if clock() - began >= seconds:
            return calls


def _mean_watts(windows: Sequence[Window]) -> float:
    return sum(window.joules for window in windows) / sum(window.seconds for window in windows)


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    mean = float(np.mean(values))
    half = _T_95[len(values) - 1] * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half
