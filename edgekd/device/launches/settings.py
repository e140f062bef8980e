"""How a model is measured: the settings that every command shares, checked where they are made."""

import math
from dataclasses import dataclass

from ..durations import LIMIT_S
from ..errors import DeviceError
from ..instructions import find_counter
from ..nearest import nearest
from ..sensors import NAMES as SENSORS
from ..sensors import is_sensor

RANGES = {"threads": (1, 1024), "launches": (1, 100), "confirm": (0, 20), "seed": (0, 2**31 - 1)}
_TIMES = {"duration_s": "duration", "sustained_s": "sustained", "limit_s": "time-limit"}
_PATIENCE_S, _PATIENCE = LIMIT_S, 10.0


@dataclass(frozen=True)
class MeasuringSettings:
    """What a process measures with: the runtime's threads, a name of `sensors` and one of `instructions`.

    `duration_s` is the time of the timed calls.
    """

    duration_s: float = 10.0
    threads: int = 1
    sensor: str = "auto"
    counter: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot be, in the fields of those that build on this as well.

        Raises:
            DeviceError: A number is out of range, or there is no sensor or counter of this name.
        """
        for name, value in vars(self).items():
            if name in _TIMES and value is not None and not 0 < value < math.inf:
                raise DeviceError(f"--{_TIMES[name]} must be above 0, not {value}")
            if name in RANGES and not RANGES[name][0] <= value <= RANGES[name][1]:
                raise DeviceError(f"--{name} must be {RANGES[name][0]} to {RANGES[name][1]}, not {value}")
        if not is_sensor(self.sensor):
            raise DeviceError(
                f"unknown sensor {self.sensor!r}{nearest(self.sensor, SENSORS)}; known: {', '.join(SENSORS)}"
            )
        find_counter(self.counter)


@dataclass(frozen=True)
class LaunchSettings(MeasuringSettings):
    """How several launches measure.

    `duration_s` is that of all launches and models together. `seed` is that of the order of the blocks. A launch is ended after
    `limit_s`.
    """

    launches: int = 6
    seed: int = 0
    limit_s: float = LIMIT_S


def longest_s(duration_s: float) -> float:
    """Return how many seconds a process that measures for so long may take at most, opening the model included."""
    return _PATIENCE_S + _PATIENCE * duration_s
