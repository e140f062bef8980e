"""The INA3221 power monitors of Jetson modules, as Linux shows them under sysfs.

Each has three channels with a label, a voltage in mV and a current in mA. `VDD_IN` is what flows into the module; modules
that lack it (AGX Orin, Thor) are the sum of their rails. A channel labelled `NC` is not connected, one without a current is
the sum that the chip makes itself.
"""

from pathlib import Path

from ..errors import CheckFailed
from .sensor import PowerSensor
from .sysfs import number, text

_CHANNELS = "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_label"
WHOLE = "VDD_IN"
_NOT_CONNECTED = "NC"


class Ina3221(PowerSensor):
    """Adds up the rails, files of voltage and current by name; `covers` names what was added up."""

    name = "ina3221"
    interval_s = 0.05

    def __init__(self, rails: dict[str, tuple[Path, Path]]) -> None:
        self._rails = {WHOLE: rails[WHOLE]} if WHOLE in rails else rails
        self.covers = coverage(list(rails))
        self.power_w()

    @classmethod
    def find(cls, root: Path = Path("/")) -> "Ina3221 | str":
        """Return the sensor, or why there is none."""
        rails = {}
        try:
            for label in sorted(root.glob(_CHANNELS)):
                name, number_of = text(label), label.name[len("in") : -len("_label")]
                volts, amperes = label.with_name(f"in{number_of}_input"), label.with_name(f"curr{number_of}_input")
                if name not in ("", _NOT_CONNECTED) and volts.exists() and amperes.exists():
                    rails[name] = (volts, amperes)
            return cls(rails) if rails else "no INA3221 under /sys/bus/i2c/drivers/ina3221"
        except CheckFailed as failure:
            return str(failure)

    def power_w(self) -> float:
        """Return the power of the module."""
        return sum(
            number(millivolts) * number(milliamperes) * 1e-6 for millivolts, milliamperes in self._rails.values()
        )


def coverage(rails: list[str]) -> str:
    """Return what the sum of rails covers, in words."""
    return f"the module ({WHOLE})" if WHOLE in rails else f"the rails {', '.join(sorted(rails))}"
