"""Start launches: each is a process of its own."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arrays import Array, read_arrays
from ..durations import LIMIT_S
from ..instructions.callgrind import Callgrind
from . import launch
from .launch import TIMES
from .process import run_apart
from .settings import LaunchSettings
from .subject import Subject


@dataclass(frozen=True)
class Launch:
    """What one launch gave: its result, as `launch.measure_launch` returns it, and the times of all calls in ms by model."""

    result: dict[str, Any]
    times_ms: dict[str, Array]


def start(
    subjects: Mapping[str, Subject],
    *,
    threads: int,
    duration_s: float,
    seed: int = 0,
    counter: str = "none",
    sensor: str | None = None,
    limit_s: float = LIMIT_S,
) -> Launch:
    """Measure one or two models in a process of their own.

    Args:
        subjects: By role, `candidate` and `baseline`, in the order in which they are opened.
        threads: Of the runtime.
        duration_s: Of the timed calls of all models together, in seconds.
        seed: Of the order of the blocks.
        counter: Of instructions; a name of `instructions`.
        sensor: A name of `sensors`, for a launch that measures energy alone.
        limit_s: After so many seconds it is ended.

    Raises:
        RuntimeMissing: The runtime is not installed, or has the wrong version.
        DeviceError: The runtime is not known, or refuses a model; of two the message says which.
        CheckFailed: It crashed, was killed or took too long.
    """
    settings = {"threads": threads, "duration_s": duration_s, "seed": seed, "counter": counter, "sensor": sensor}
    with tempfile.TemporaryDirectory(prefix="edgekd-launch-") as name:
        place = Path(name)
        result = run_apart(launch.__name__, subjects, settings, place, limit_s=limit_s)
        return Launch(result, read_arrays(place / TIMES))


def launch_number(subjects: Mapping[str, Subject], settings: LaunchSettings, number: int) -> Launch:
    """Start one launch of several; its `number` decides which model is opened first, and the order of the blocks.

    Valgrind takes minutes and always counts the same: of as many launches as the settings name, the first alone asks it.

    Raises:
        RuntimeMissing: The runtime is not installed, or has the wrong version.
        DeviceError: The runtime refuses a model.
        CheckFailed: It crashed, was killed or took too long.
    """
    once = settings.counter == Callgrind.name and number % settings.launches != 0
    order = list(subjects) if number % 2 == 0 else list(subjects)[::-1]
    return start(
        {role: subjects[role] for role in order},
        threads=settings.threads,
        duration_s=settings.duration_s / settings.launches,
        seed=settings.seed + number,
        counter="none" if once else settings.counter,
        limit_s=settings.limit_s,
    )
