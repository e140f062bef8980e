"""`tegrastats`, NVIDIA's tool on Jetson modules: a line of text for every interval, with the power of each rail.

A rail reads `VDD_IN 5971mW/5971mW`: now, and the mean since the tool began; newer ones add a third value. It serves where
the INA3221 files may not be read: the tool runs as any user.
"""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time

from ..errors import CheckFailed
from .ina3221 import WHOLE, coverage
from .sensor import CommandSensor, Sensor, longest_gap_s

_RAIL = re.compile(r"\b(V[A-Z0-9_]+) (\d+)mW/\d+mW")
_FIRST_LINE_S = 5.0
_STOPS_S = 2.0


class Tegrastats(CommandSensor):
    """Reads the last line that the tool printed, which runs from `__enter__` to `__exit__`."""

    name = "tegrastats"
    command = "tegrastats"
    interval_s = 0.1

    def __init__(self, path: str) -> None:
        super().__init__(path)
        with self:
            self._rails = rails_of(self._latest()).keys()
        self.covers = coverage(list(self._rails))

    def __enter__(self) -> Sensor:
        """Start the tool and wait for its first line."""
        interval_ms = str(round(self.interval_s * 1000))
        self._line, self._printed_s = "", 0.0
        self._printed = threading.Event()
        try:
            self._process = subprocess.Popen(
                [self._path, "--interval", interval_ms],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                start_new_session=True,  # so that what it starts is stopped with it
            )
        except OSError as error:
            raise CheckFailed(f"{self._path} does not start: {error.strerror}") from error
        self._reader = threading.Thread(target=self._follow, name="tegrastats reader", daemon=True)
        self._reader.start()
        if not self._printed.wait(_FIRST_LINE_S):
            self._stop_tool()
            raise CheckFailed(f"{self._path} prints nothing")
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop the tool."""
        super().__exit__(*failure)
        self._stop_tool()

    def power_w(self) -> float:
        """Return the power of the module."""
        line = self._latest()
        if rails_of(line).keys() != self._rails:
            raise CheckFailed(f"tegrastats tells other rails than before: {line.strip()[:200]!r}")
        return module_power_w(line)

    def _latest(self) -> str:
        """Return the last line, where the tool still prints some."""
        line, age_s = self._line, time.monotonic() - self._printed_s
        if age_s > longest_gap_s(self.interval_s):
            raise CheckFailed(f"{self._path} has printed nothing for {age_s:.1f} s: it ended or hangs")
        return line

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._line, self._printed_s = line, time.monotonic()
            self._printed.set()

    def _stop_tool(self) -> None:
        for kind in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, kind)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOPS_S)
                break
        self._reader.join(_STOPS_S)


def rails_of(line: str) -> dict[str, float]:
    """Return the rails of a line with their present power in watts.

    Raises:
        CheckFailed: There are none.
    """
    found = {name: int(milliwatts) / 1000 for name, milliwatts in _RAIL.findall(line)}
    if not found:
        raise CheckFailed(f"tegrastats tells no power: {line.strip()[:80]!r}")
    return found


def module_power_w(line: str) -> float:
    """Return the power of the module by a line: of `VDD_IN` where there is one, else of all rails together."""
    rails = rails_of(line)
    return rails.get(WHOLE, sum(rails.values()))
