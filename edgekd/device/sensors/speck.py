"""The power monitor of SynSense's Speck development kits, through the vendor's `samna`.

PyPI's `samna` is a stub that installs software when it is imported, so that this file looks before it imports: only the real
package is used. Rails: 0 io, 1 ram, 2 logic, 3 digital, 4 analogue of the pixels; values in watts.
"""

import importlib
import importlib.util
import time
from pathlib import Path
from typing import Any

from ..errors import CheckFailed
from .sensor import PowerSample, Sensor, Window

_STUB = "PYPI_SAMNA"
_KITS = ("Speck2fDevKit", "Speck2eDevKit")
_RATE_HZ = 50.0
_FEWEST = 0.8  # of the readings that this rate gives: they carry no times, so that a stall shows in their number alone


class Speck(Sensor):
    """All rails of a development kit, sampled by its own monitor."""

    name = "speck"
    covers = "the chip's rails"
    interval_s = 1 / _RATE_HZ

    def __init__(self, samna: Any, kit: Any) -> None:
        self._monitor = kit.get_power_monitor()
        self._sink = samna.graph.sink_from(self._monitor.get_source_node())

    @classmethod
    def find(cls) -> "Speck | str":
        """Return the sensor, or why there is none."""
        spec = importlib.util.find_spec("samna")
        if spec is None or spec.origin is None:
            return "Speck's monitor needs the vendor's samna"
        if _STUB in Path(spec.origin).read_text(encoding="utf-8", errors="replace"):
            return "the installed samna is PyPI's stub, which installs software when it is imported: it is left alone"
        try:
            samna = importlib.import_module("samna")
            kits = [one for one in samna.device.get_all_devices() if one.device_type_name in _KITS]
            return cls(samna, samna.device.open_device(kits[0])) if kits else "no Speck development kit is attached"
        except Exception as error:
            return f"samna does not open the development kit: {error}"

    def begin(self) -> None:
        """Open a window."""
        self._sink.get_events()  # what came before
        self._monitor.start_auto_power_measurement(_RATE_HZ)
        self._began = time.monotonic()

    def end(self) -> Window:
        """Close the window."""
        seconds = time.monotonic() - self._began
        self._monitor.stop_auto_power_measurement()
        return window_of([(int(event.channel), float(event.value)) for event in self._sink.get_events()], seconds)


def window_of(readings: list[tuple[int, float]], seconds: float) -> Window:
    """Return the energy of readings (rail, watts) that were taken at equal intervals over so many seconds.

    Raises:
        CheckFailed: There are too few of some rail, or one is no power.
    """
    rails: dict[int, list[float]] = {}
    for rail, watts in readings:
        rails.setdefault(rail, []).append(watts)
    fewest = max(2, int(_FEWEST * _RATE_HZ * seconds))
    if not rails or min(map(len, rails.values())) < fewest:
        raise CheckFailed(f"Speck's monitor gave fewer than {fewest} readings of a rail in {seconds:.2g} s: it stalled")
    mean_w = {
        rail: sum(PowerSample(0.0, one).power_w for one in powers) / len(powers) for rail, powers in rails.items()
    }
    return Window(sum(mean_w.values()) * seconds, seconds, len(readings))
