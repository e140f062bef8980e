"""What both kinds of meter share: listening until it is known how often a sample comes, and windows of such samples."""

import time
from abc import abstractmethod
from itertools import pairwise
from pathlib import Path

from ...errors import CheckFailed
from ..sensor import PowerSample, Sensor, Window, integrate, longest_gap_s

NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_HEARD = 3  # samples that tell the interval
_LISTEN_S, _PATIENCE_S = 1.5, 10.0  # at least, for lines may come in bursts; and at most
_LOOK_S = 0.02
_LATE_S = 2.0  # a file may be written so much later than its samples were taken
_AHEAD_S = 0.2  # and so much may the meter's clock be ahead of this one


class Meter(Sensor):
    """Takes the samples of a window out of those that arrive one after another."""

    name = "meter"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.covers = f"what the meter measures ({path})"

    @abstractmethod
    def now_s(self) -> float:
        """Return the present time by the clock of the samples, in seconds."""

    @abstractmethod
    def arrived(self) -> list[PowerSample]:
        """Return the samples that came since the last call.

        Raises:
            CheckFailed: The meter is gone, or wrote what is no power.
        """

    @abstractmethod
    def open(self) -> None:
        """Begin to read.

        Raises:
            CheckFailed: That is not possible.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop reading."""

    def __enter__(self) -> Sensor:
        """Open it and listen: the longest time between two samples is the interval."""
        self.open()
        try:
            times_s = self._listen()
        except BaseException:
            self.close()
            raise
        self.interval_s = max(later - earlier for earlier, later in pairwise(times_s))
        return self

    def __exit__(self, *failure: object) -> None:
        """Close it."""
        self.close()

    def begin(self) -> None:
        """Open a window."""
        self.arrived()  # what came before
        self._began_s = self.now_s()

    def end(self) -> Window:
        """Close the window, when a sample after its end shows that all of its own are there."""
        ended_s = self.now_s()
        patience_s = max(_LATE_S, longest_gap_s(self.interval_s))
        samples = self.arrived()
        while not samples or samples[-1].time_s < ended_s:
            if self.now_s() > ended_s + patience_s:
                raise CheckFailed(f"{self._path} has no sample of the last {patience_s:.2g} s: is the meter running?")
            time.sleep(_LOOK_S)
            samples += self.arrived()
        return integrate(samples, self._began_s, ended_s, self.interval_s)

    def _listen(self) -> list[float]:
        """Return the times of the first samples."""
        began, times_s = time.monotonic(), list[float]()
        while len(times_s) < _HEARD or time.monotonic() - began < _LISTEN_S:
            if time.monotonic() - began > _PATIENCE_S:
                raise CheckFailed(
                    f"{self._path} gave {len(times_s)} of {_HEARD} samples within {_PATIENCE_S:.0f} s: is the meter running?"
                )
            time.sleep(_LOOK_S)
            times_s += [one.time_s for one in self.arrived()]
        if not -_PATIENCE_S < times_s[-1] - self.now_s() < _AHEAD_S:
            raise CheckFailed(
                f"{self._path}: the time of its last sample is {times_s[-1]:.1f} s, now is {self.now_s():.1f} s"
            )
        return times_s
