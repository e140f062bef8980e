"""Energy sensors: one file each, behind `Sensor`."""

from collections.abc import Callable

from ..errors import DeviceError
from . import nvml
from .absent import AbsentSensor
from .ina3221 import Ina3221
from .meters import open_meter
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
METER, GPU = "meter:", "nvml:"
NOT_NAMED = ("auto", "none")  # no figure is no failure
NAMES = (*NOT_NAMED, *_FINDERS, f"{GPU}NUMBER", *_NAMED_ONLY, f"{METER}FILE")


def is_sensor(name: str) -> bool:
    """Return whether there may be a sensor of this name on some machine."""
    number = name.removeprefix(GPU)
    return (
        name in (*NOT_NAMED, *_FINDERS, *_NAMED_ONLY)
        or name.startswith(METER)
        or (number != name and number.isdecimal())
    )


def find_sensor(name: str = "auto") -> Sensor:
    """Return the sensor of this name, or one that says why it is not here; `auto` is the first that this machine has.

    Args:
        name: One of `NAMES`; `nvml:1` is the second GPU, `meter:FILE` an external meter.

    Raises:
        DeviceError: There is no such name, or the meter's file is none.
    """
    if not is_sensor(name):
        raise DeviceError(f"unknown sensor {name!r}; known: {', '.join(NAMES)}")
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
    if name.startswith(METER):
        return open_meter(name[len(METER) :])
    found = nvml.find(int(name[len(GPU) :])) if name.startswith(GPU) else {**_FINDERS, **_NAMED_ONLY}[name]()
    return AbsentSensor(found) if isinstance(found, str) else found
