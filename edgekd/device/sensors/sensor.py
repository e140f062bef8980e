"""What every energy sensor offers: the energy that flowed between two moments.

```
begin() ----- samples of power, or one reading of a counter at each end ----- end() -> Window(joules, seconds)
```
A sensor of power is read by a thread of its own, as often as its hardware has a new value, and the samples are integrated
by the trapezoidal rule. A sensor of energy is read twice.
"""

import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import CheckFailed


class PowerSample(NamedTuple):
    """Power in watts at a moment in seconds."""

    time_s: float
    power_w: float


@dataclass(frozen=True)
class Window:
    """The energy between two moments. `samples` are readings that it was made of."""

    joules: float
    seconds: float
    samples: int

    @property
    def watts(self) -> float:
        """Return the mean power."""
        return self.joules / self.seconds


class Sensor(ABC):
    """Something that measures energy. `covers` says what of the board is measured: a rail, the processor, all of it."""

    name: str
    covers: str

    @abstractmethod
    def begin(self) -> None:
        """Open a window.

        Raises:
            CheckFailed: The sensor cannot be read.
        """

    @abstractmethod
    def end(self) -> Window:
        """Close the window.

        Raises:
            CheckFailed: The sensor could not be read, or gave too few samples.
        """


class PowerSensor(Sensor):
    """A sensor that tells the power of this moment; it is read every `interval_s`."""

    interval_s: float

    @abstractmethod
    def power_w(self) -> float:
        """Return the power in watts.

        Raises:
            CheckFailed: The sensor cannot be read.
        """

    def begin(self) -> None:
        """Open a window."""
        self._samples = [PowerSample(time.monotonic(), self.power_w())]  # here, where an error reaches the caller
        self._failure: CheckFailed | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name=f"{self.name} sampler", daemon=True)
        self._thread.start()

    def end(self) -> Window:
        """Close the window."""
        self._stop.set()
        self._thread.join()
        if self._failure is None:
            self._samples.append(PowerSample(time.monotonic(), self.power_w()))
        else:
            raise self._failure
        return integrate(self._samples)

    def _sample(self) -> None:
        while not self._stop.wait(self.interval_s):
            try:
                self._samples.append(PowerSample(time.monotonic(), self.power_w()))
            except CheckFailed as failure:
                self._failure = failure
                return


class CommandSensor(PowerSensor):
    """A sensor that a command-line tool reads; `command` is its name."""

    command: str

    def __init__(self, path: str) -> None:
        self._path = path

    @classmethod
    def find(cls) -> "Sensor | str":
        """Return the sensor, or why there is none."""
        path = shutil.which(cls.command)
        try:
            return cls(path) if path else f"no {cls.command} command"
        except CheckFailed as failure:
            return str(failure)


class EnergyCounter(Sensor):
    """A sensor that adds up energy by itself; it is read twice."""

    @abstractmethod
    def energy_j(self) -> float:
        """Return the joules since some moment in the past.

        Raises:
            CheckFailed: The sensor cannot be read.
        """

    def begin(self) -> None:
        """Open a window."""
        self._began_s, self._began_j = time.monotonic(), self.energy_j()

    def end(self) -> Window:
        """Close the window."""
        ended_s, joules = time.monotonic(), self.energy_j() - self._began_j
        if joules < 0:
            raise CheckFailed(f"the counter of {self.name} ran backwards")
        return Window(joules, ended_s - self._began_s, 2)


def integrate(samples: Sequence[PowerSample]) -> Window:
    """Return the energy between the first and the last sample, by the trapezoidal rule.

    Raises:
        CheckFailed: There are fewer than two samples, or no time passed between them.
    """
    if len(samples) < 2 or samples[-1].time_s <= samples[0].time_s:
        raise CheckFailed("the sensor gave fewer than two samples: measure for longer")
    times, powers = np.array(samples, dtype=np.float64).T
    joules = float(np.sum(np.diff(times) * (powers[1:] + powers[:-1]) / 2))
    return Window(joules, float(times[-1] - times[0]), len(samples))
