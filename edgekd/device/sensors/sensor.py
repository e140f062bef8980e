"""What every energy sensor offers: the energy that flowed between two moments.

```
with sensor:
    begin() ----- samples of power, or one reading of a counter at each end ----- end() -> Window(joules, seconds)
```
A sensor of power is read by a thread of its own, as often as its hardware has a new value, and the samples are integrated
by the trapezoidal rule. A sensor of energy is read twice.
"""

import math
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import CheckFailed

_MOST_W = 1e6
_LONGEST_GAP_S, _LONGEST_GAP_SHARE, _LONGEST_GAP_INTERVALS = 0.5, 0.25, 2.5


@dataclass(frozen=True)
class PowerSample:
    """Power in watts at a moment in seconds."""

    time_s: float
    power_w: float

    def __post_init__(self) -> None:
        """Refuse what is no power.

        Raises:
            CheckFailed: It is not finite, below 0, or a megawatt.
        """
        if not math.isfinite(self.time_s):
            raise CheckFailed(f"{self.time_s:g} s is no time")
        if not 0 <= self.power_w < _MOST_W:
            raise CheckFailed(f"{self.power_w:g} W is no power that a board takes")


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
    """Something that measures energy. `covers` says what of the board is measured: a rail, the processor, all of it.

    It works in a `with` statement. Once that is entered, `interval_s` says how often there is a new value.
    """

    name: str
    covers: str
    interval_s: float = 0.0

    def __enter__(self) -> "Sensor":
        """Start what runs beside the windows; the sensors that have nothing of the kind are ready.

        Raises:
            CheckFailed: The sensor cannot be read.
        """
        return self

    def __exit__(self, *failure: object) -> None:  # noqa: B027  # most have nothing to stop
        """Stop it again, and a window that is still open."""

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
            CheckFailed: The sensor could not be read, or its samples do not cover the window.
        """


class PowerSensor(Sensor):
    """A sensor that tells the power of this moment; it is read every `interval_s`."""

    _stop: threading.Event | None = None

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
        self._thread = threading.Thread(
            target=self._sample, args=(self._stop,), name=f"{self.name} sampler", daemon=True
        )
        self._thread.start()

    def end(self) -> Window:
        """Close the window."""
        self._stop_sampling()
        if self._failure is not None:
            raise self._failure
        self._samples.append(PowerSample(time.monotonic(), self.power_w()))
        return integrate(self._samples, self._samples[0].time_s, self._samples[-1].time_s, self.interval_s)

    def __exit__(self, *failure: object) -> None:
        """Stop the thread, where a window is still open."""
        self._stop_sampling()

    def _stop_sampling(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._thread.join()

    def _sample(self, stop: threading.Event) -> None:
        while not stop.wait(self.interval_s):
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


def longest_gap_s(interval_s: float, window_s: float = math.inf) -> float:
    """Return for how long a sensor with such an interval may give no sample, in seconds, before it counts as stalled.

    That is 0.5 s or a quarter of the window, or two and a half intervals where they are longer.
    """
    return max(min(_LONGEST_GAP_S, _LONGEST_GAP_SHARE * window_s), _LONGEST_GAP_INTERVALS * interval_s)


def integrate(samples: Sequence[PowerSample], began_s: float, ended_s: float, interval_s: float) -> Window:
    """Return the energy of a window, by the trapezoidal rule.

    Up to the window's ends the power is that of the nearest sample within. Samples from outside are left out: something else
    ran then.

    Raises:
        CheckFailed: Fewer than two samples lie in the window, or for some of its time there is none.
    """
    inside = [one for one in samples if began_s <= one.time_s <= ended_s]
    if len(inside) < 2 or ended_s <= began_s:
        raise CheckFailed(
            f"the sensor gave fewer than two samples in {ended_s - began_s:.2g} s: {len(inside)}; measure for longer"
        )
    times = np.array([began_s, *(one.time_s for one in inside), ended_s])
    powers = np.array([inside[0].power_w, *(one.power_w for one in inside), inside[-1].power_w])
    steps = np.diff(times)
    if steps.min() < 0:
        raise CheckFailed("the times of the sensor's samples run backwards")
    if steps.max() > longest_gap_s(interval_s, ended_s - began_s):
        raise CheckFailed(f"the sensor gave no sample for {steps.max():.2g} of {ended_s - began_s:.2g} s: it stalled")
    return Window(float(np.sum(steps * (powers[1:] + powers[:-1]) / 2)), ended_s - began_s, len(inside))
