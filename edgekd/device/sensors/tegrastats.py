"""`tegrastats`, NVIDIA's tool on Jetson modules: a line of text for every interval, with the power of each rail.

A rail reads `VDD_IN 5971mW/5971mW`: now, and the mean since the tool began; newer ones add a third value. It serves where
the INA3221 files may not be read: the tool runs as any user.
"""

import re
import subprocess
import threading

from ..errors import CheckFailed
from .ina3221 import WHOLE, coverage
from .sensor import CommandSensor

_RAIL = re.compile(r"\b(V[A-Z0-9_]+) (\d+)mW/\d+mW")
_FIRST_LINE_S = 5.0


class Tegrastats(CommandSensor):
    """Reads the last line that the tool printed; it runs from the first reading on, until this process ends."""

    name = "tegrastats"
    command = "tegrastats"
    interval_s = 0.1

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._process: subprocess.Popen[str] | None = None
        self._line = ""
        self._read = threading.Event()
        self.covers = coverage(list(rails_of(self._latest())))

    def power_w(self) -> float:
        """Return the power of the module."""
        return module_power_w(self._latest())

    def _latest(self) -> str:
        if self._process is None:
            interval = str(round(self.interval_s * 1000))
            try:
                self._process = subprocess.Popen(
                    [self._path, "--interval", interval],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            except OSError as error:
                raise CheckFailed(f"{self._path} does not start: {error.strerror}") from error
            threading.Thread(target=self._follow, args=(self._process,), name="tegrastats reader", daemon=True).start()
        if not self._read.wait(_FIRST_LINE_S) or self._process.poll() is not None:
            raise CheckFailed(f"{self._path} prints nothing")
        return self._line

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._line = line
            self._read.set()


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
