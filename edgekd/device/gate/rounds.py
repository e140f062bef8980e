"""A round: several launches of one model, or of two in turns, and where it is asked for one that measures energy."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import DeviceError
from ..instructions import find_counter
from ..instructions.callgrind import Callgrind
from ..launches import launcher
from ..launches.subject import Subject
from ..sensors import NAMES as SENSORS
from ..sensors import find_sensor, is_sensor
from ..sensors.absent import AbsentSensor
from .evidence import Evidence
from .quantities import nearest

RANGES = {"threads": (1, 1024), "launches": (1, 100), "confirm": (0, 20), "seed": (0, 2**31 - 1)}


@dataclass(frozen=True)
class GateSettings:
    """How it is measured.

    `duration_s` is the time of the timed calls of a round, all launches and models together. `confirm` is how many more rounds
    may follow where a check is no pass. `shared` says whether other work shares the machine, None looks for signs of it. A
    launch is ended after `limit_s`.
    """

    duration_s: float = 10.0
    launches: int = 6
    confirm: int = 2
    threads: int = 1
    sensor: str = "auto"
    counter: str = "auto"
    seed: int = 0
    shared: bool | None = None
    limit_s: float = 600.0

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            DeviceError: A number is out of range, or there is no sensor or counter of this name.
        """
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise DeviceError(f"--{name} must be {least} to {most}, not {getattr(self, name)}")
        if not is_sensor(self.sensor):
            raise DeviceError(
                f"unknown sensor {self.sensor!r}{nearest(self.sensor, SENSORS)}; known: {', '.join(SENSORS)}"
            )
        find_counter(self.counter)


def measure_round(subjects: Mapping[str, Subject], settings: GateSettings, energy: bool, index: int = 0) -> Evidence:
    """Launch the models; each is opened first in every other launch.

    Args:
        subjects: By role: `candidate`, and `baseline` where two are compared.
        settings: How it is measured.
        energy: Whether energy is measured as well.
        index: Of the round; another order of blocks for each.

    Raises:
        RuntimeMissing: The runtime is not installed, or has the wrong version.
        CheckFailed: A launch crashed, was killed or took too long, or the runtime refuses a model.
    """
    evidence = Evidence()
    for number in range(settings.launches):
        evidence.launches.append(launch(subjects, settings, index * settings.launches + number))
    if energy:
        evidence.energy.append(_launch_for_energy(subjects, settings))
    return evidence


def launch(subjects: Mapping[str, Subject], settings: GateSettings, number: int) -> launcher.Launch:
    """Launch the models once; `number` decides which one is opened first.

    Valgrind takes minutes and always counts the same: the first launch of a round alone asks it.
    """
    once = settings.counter == Callgrind.name and number % settings.launches != 0
    order = list(subjects) if number % 2 == 0 else list(subjects)[::-1]
    return launcher.start(
        {role: subjects[role] for role in order},
        threads=settings.threads,
        duration_s=settings.duration_s / settings.launches,
        seed=settings.seed + number,
        counter="none" if once else settings.counter,
        limit_s=settings.limit_s,
    )


def why_no_energy(settings: GateSettings) -> str | None:
    """Return why energy cannot be measured here, or None.

    Raises:
        DeviceError: There is no such sensor anywhere, or the meter's file is none.
    """
    sensor = find_sensor(settings.sensor)
    return sensor.reason if isinstance(sensor, AbsentSensor) else None


def _launch_for_energy(subjects: Mapping[str, Subject], settings: GateSettings) -> launcher.Launch:
    return launcher.start(
        subjects,
        threads=settings.threads,
        duration_s=settings.duration_s / len(subjects),
        sensor=settings.sensor,
        limit_s=settings.limit_s,
    )
