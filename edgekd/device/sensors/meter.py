"""An external meter that writes what it measures: into a CSV file that grows, or to a serial line.

CSV: a header with a column of seconds since 1970 (`time_s`) and one of watts (`power_w`); the meter's program may write while
this reads. Serial: a line a sample, the last number of a line being watts; set the line's speed before with `stty`.
"""

import csv
import os
import re
import stat
import threading
import time
from pathlib import Path

import numpy as np

from ..errors import CheckFailed, DeviceError
from .sensor import PowerSample, Sensor, Window, integrate

_TIME, _POWER = "time_s", "power_w"
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_MARGIN_S = 2.0  # longest gap between the meter's last sample and the window's end


def open_meter(path: Path) -> Sensor:
    """Return the meter behind a CSV file or a serial line.

    Raises:
        DeviceError: The path does not exist or may not be read.
    """
    if not path.exists():
        raise DeviceError(f"{path} does not exist: start the meter's program first, or name its serial line")
    if not os.access(path, os.R_OK):
        raise DeviceError(f"{path} may not be read: add yourself to its group ({path.group()}), or run as root")
    return SerialMeter(path) if stat.S_ISCHR(path.stat().st_mode) else CsvMeter(path)


class CsvMeter(Sensor):
    """Takes the samples of a window out of a CSV file when the window has closed."""

    name = "meter"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.covers = f"what the meter measures ({path.name})"

    def begin(self) -> None:
        """Open a window."""
        self._began_s = time.time()

    def end(self) -> Window:
        """Close the window."""
        ended_s = time.time()
        while not (samples := self._samples()) or samples[-1].time_s < ended_s:
            if time.time() > ended_s + _MARGIN_S:
                raise CheckFailed(f"{self._path} has no sample of the last {_MARGIN_S:.0f} s: is the meter running?")
            time.sleep(0.05)
        return integrate(cut(samples, self._began_s, ended_s))

    def _samples(self) -> list[PowerSample]:
        try:
            with self._path.open(newline="", encoding="utf-8") as file:
                content = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise CheckFailed(f"{self._path} cannot be read: {error}") from error
        rows = csv.DictReader(content[: content.rfind("\n") + 1].splitlines())  # the last line may be half written
        if rows.fieldnames is None or not {_TIME, _POWER} <= set(rows.fieldnames):
            raise CheckFailed(f"{self._path} needs the columns {_TIME} (since 1970) and {_POWER}")
        try:
            return [PowerSample(float(row[_TIME]), float(row[_POWER])) for row in rows]
        except (TypeError, ValueError) as error:
            raise CheckFailed(f"{self._path}, line {rows.line_num}: {error}") from error


class SerialMeter(Sensor):
    """Reads a serial line in a thread, for as long as a window is open."""

    name = "meter"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.covers = f"what the meter measures ({path})"

    def begin(self) -> None:
        """Open a window."""
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise CheckFailed(f"{self._path} cannot be opened: {error.strerror}") from error
        self._samples: list[PowerSample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="meter reader", daemon=True)
        self._thread.start()

    def end(self) -> Window:
        """Close the window."""
        self._stop.set()
        self._thread.join()
        os.close(self._file)
        return integrate(self._samples)

    def _follow(self) -> None:
        rest = b""
        while not self._stop.wait(0.005):
            try:
                rest += os.read(self._file, 4096)
            except BlockingIOError:
                continue
            *lines, rest = rest.split(b"\n")
            for line in lines:
                numbers = _NUMBER.findall(line.decode("ascii", errors="replace"))
                if numbers:
                    self._samples.append(PowerSample(time.monotonic(), float(numbers[-1])))


def cut(samples: list[PowerSample], began_s: float, ended_s: float) -> list[PowerSample]:
    """Return the samples of a window; at its ends the power lies on the line between the neighbours."""
    inside = [one for one in samples if began_s < one.time_s < ended_s]
    if not samples or samples[0].time_s > began_s:
        raise CheckFailed("the meter's first sample is younger than the window: start the meter earlier")
    times, powers = zip(*samples, strict=True)
    first, last = (PowerSample(at, float(np.interp(at, times, powers))) for at in (began_s, ended_s))
    return [first, *inside, last]
