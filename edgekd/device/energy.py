"""The energy of one call, by a sensor.

```
|-- at rest --|-- calls, back to back --| at rest |-- calls --| ... |     in rounds, so that a board that heats up heats both
     idle W              busy W             idle       busy
```
`total` is what flows while a call runs, divided by the calls: what a battery gives. `above idle` is without what the board
takes at rest: what the calls add. Each round gives one value of both; a figure is their mean with its 95 % interval
(Student's t). A window holds at least five values of the sensor, and begins one value late: a meter's first value may still be
of what was before.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .errors import CheckFailed
from .latency import garbage_collection_off
from .sensors import NOT_NAMED
from .sensors.sensor import Sensor, Window

ROUNDS = 5
_VALUES = 5  # of the sensor in a window, at least
_T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}  # by rounds - 1


@dataclass(frozen=True)
class Energy:
    """The energy of one call, in millijoules; `low` and `high` are the ends of 95 % intervals.

    `covers` is what of the machine the sensor measures. Where `above_idle_low_mj` is not above zero, the calls are not
    distinguishable from rest.
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
    say: Callable[[str], None] = lambda message: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Energy:
    """Measure the energy of a warm call.

    Args:
        run: One call; what it returns is ignored.
        sensor: What measures.
        duration_s: Of all calls together, in seconds; longer where the sensor is slow.
        idle_s: At rest, in seconds, all rounds together; longer likewise.
        rounds: How many times rest and calls follow each other, from 2 to 10.
        say: Takes a line that tells how long it takes.
        sleep: Rests; replaced in tests.
        clock: Seconds; replaced in tests.

    Raises:
        CheckFailed: The sensor cannot be read, its samples do not cover the windows, or it tells no energy at all.
    """
    idle, busy, calls = [], [], []
    with sensor, garbage_collection_off():
        late_s = sensor.interval_s
        rest_s, busy_s = (max(seconds / rounds, _VALUES * sensor.interval_s) for seconds in (idle_s, duration_s))
        say(f"energy by {sensor.name}: {rounds * (rest_s + busy_s + 2 * late_s):.3g} s")
        for _ in range(rounds):
            sleep(late_s)
            sensor.begin()
            sleep(rest_s)
            idle.append(sensor.end())
            _calls(run, late_s, clock)
            sensor.begin()
            calls.append(_calls(run, busy_s, clock))
            busy.append(sensor.end())
    return summarize(sensor, idle, busy, calls)


def require_energy(sensor: str, profile: Mapping[str, Any]) -> None:
    """Refuse a profile without a figure of energy where a sensor was named, but for `auto` and `none`.

    Raises:
        CheckFailed: There is none; the message says why.
    """
    if sensor not in NOT_NAMED and profile["energy"] is None:
        raise CheckFailed(f"the sensor {sensor} gave no figure: {profile['energy_absent']}")


def summarize(sensor: Sensor, idle: Sequence[Window], busy: Sequence[Window], calls: Sequence[int]) -> Energy:
    """Return the figures of the windows at rest, those with calls, and how many calls each of them had.

    Raises:
        CheckFailed: The sensor told no energy while calls ran.
    """
    if min(window.joules for window in busy) <= 0:
        raise CheckFailed(f"{sensor.name} tells no energy at all while calls run: it does not count")
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
