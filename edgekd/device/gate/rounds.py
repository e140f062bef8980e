"""A round: several launches of one model, or of two in turns, and where it is asked for one that measures energy."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..launches import launcher
from ..launches.evidence import Evidence
from ..launches.settings import LaunchSettings
from ..launches.subject import Subject
from ..sensors import find_sensor
from ..sensors.absent import AbsentSensor


@dataclass(frozen=True)
class GateSettings(LaunchSettings):
    """How a gate measures.

    `duration_s` is the time of the timed calls of a round. `confirm` is how many more rounds may follow where a check is no pass.
    `shared` says whether other work shares the machine, None looks for signs of it.
    """

    confirm: int = 2
    shared: bool | None = None


def measure_round(subjects: Mapping[str, Subject], settings: GateSettings, energy: bool, index: int = 0) -> Evidence:
    """Launch the models; each is opened first in every other launch.

    Args:
        subjects: By role: `candidate`, and `baseline` where two are compared.
        settings: How it is measured.
        energy: Whether energy is measured as well.
        index: Of the round; another order of blocks for each.

    Raises:
        RuntimeMissing: The runtime is not installed, or has the wrong version.
        DeviceError: The runtime refuses a model.
        CheckFailed: A launch crashed, was killed or took too long.
    """
    evidence = Evidence()
    for number in range(settings.launches):
        evidence.launches.append(launcher.launch_number(subjects, settings, index * settings.launches + number))
    if energy:
        evidence.energy.append(_launch_for_energy(subjects, settings))
    return evidence


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
