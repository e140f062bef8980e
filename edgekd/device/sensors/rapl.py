"""RAPL: the energy counters of x86 processors, as Linux shows them under powercap.

`package-*` covers a socket: cores, caches and the integrated GPU, not the memory, disks or the board. Kernels from 5.10 let
only root read it.
"""

from pathlib import Path

from ..errors import CheckFailed
from .sensor import EnergyCounter
from .sysfs import number, text

_DOMAINS = "sys/class/powercap/intel-rapl:*"
_PACKAGE = "package-"


class Rapl(EnergyCounter):
    """Adds up the packages of all sockets. Each counter wraps at a value of its own."""

    name = "rapl"
    interval_s = 0.001

    def __init__(self, packages: list[Path]) -> None:
        self._packages = packages
        self.covers = f"the processor ({', '.join(text(path / 'name') for path in packages)})"
        self._last = {path: number(path / "energy_uj") for path in packages}
        self._total_uj = 0.0

    @classmethod
    def find(cls, root: Path = Path("/")) -> "Rapl | str":
        """Return the sensor, or why there is none."""
        domains = [path for path in sorted(root.glob(_DOMAINS)) if path.name.count(":") == 1]
        try:
            packages = [path for path in domains if text(path / "name").startswith(_PACKAGE)]
            return cls(packages) if packages else "no RAPL counter under /sys/class/powercap"
        except CheckFailed as failure:
            return str(failure)

    def energy_j(self) -> float:
        """Return the joules since the sensor was opened; more than one round of a counter between two calls is not seen."""
        for path, last in self._last.items():
            now = number(path / "energy_uj")
            self._total_uj += now - last if now >= last else now - last + number(path / "max_energy_range_uj")
            self._last[path] = now
        return self._total_uj * 1e-6
