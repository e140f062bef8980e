"""Energy sensors: one file each, behind `Sensor`."""

from collections.abc import Callable
from pathlib import Path

from ..errors import DeviceError
from . import nvml
from .absent import AbsentSensor
from .ina3221 import Ina3221
from .meter import open_meter
from .pi5_pmic import Pi5Pmic
from .rapl import Rapl
from .sensor import Sensor
from .speck import Speck
from .tegrastats import Tegrastats

_FINDERS: dict[str, Callable[[], Sensor | str]] = {  # those that cover most come first
    "ina3221": Ina3221.find,
    "tegrastats": Tegrastats.find,
    "pi5-pmic": Pi5Pmic.find,
    "rapl": Rapl.find,
    "nvml": nvml.find,
}
_NAMED_ONLY: dict[str, Callable[[], Sensor | str]] = {
    "speck": Speck.find
}  # another chip than the one that runs the calls
METER = "meter:"
NAMES = ("auto", "none", *_FINDERS, *_NAMED_ONLY, f"{METER}FILE")


def find_sensor(name: str = "auto") -> Sensor:
    """Return the sensor of this name; `auto` is the first that this machine has, or one that says why there is none.

    Args:
        name: One of `NAMES`; `meter:FILE` is an external meter.

    Raises:
        DeviceError: The name is not known, or that sensor is not here.
    """
    if name.startswith(METER):
        return open_meter(Path(name[len(METER) :]))
    if name == "none":
        return AbsentSensor("not asked for")
    if name == "auto":
        reasons = []
        for find in _FINDERS.values():
            found = find()
            if isinstance(found, Sensor):
                return found
            reasons.append(found)
        return AbsentSensor("; ".join(reasons))
    known = {**_FINDERS, **_NAMED_ONLY}
    if name not in known:
        raise DeviceError(f"unknown sensor {name!r}; known: {', '.join(NAMES)}")
    found = known[name]()
    if isinstance(found, str):
        raise DeviceError(f"there is no sensor {name}: {found}")
    return found
