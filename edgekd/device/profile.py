"""What a profile holds: first call, latency, memory, and on demand energy, layers and a long run."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .arrays import Array
from .energy import measure_energy
from .errors import CheckFailed
from .latency import Latency, measure
from .layers import profile_layers
from .machine import Machine, peak_memory_mib, read_machine, warnings
from .runtimes.session import Session
from .sensors.sensor import Sensor
from .sustained import sustain

_DRIFT_PERCENT = 5.0


@dataclass(frozen=True)
class ProfileSettings:
    """What is measured.

    `duration_s` is the longest time for the timed calls, and again for those whose energy is measured. `batch` is the model's
    own, or 1, where it is None. `sensor` is a name of `sensors`. `layers` adds the runtime's own profile, `sustained_s` a long
    run of so many seconds.
    """

    duration_s: float = 10.0
    threads: int = 1
    batch: int | None = None
    sensor: str = "auto"
    layers: bool = False
    sustained_s: float | None = None


@dataclass(frozen=True)
class Opened:
    """A model that a runtime has opened: its name and precision, its file, one call's inputs, and what opening it took."""

    name: str
    precision: str
    runtime: str
    file: Path
    session: Session
    feeds: dict[str, Array]
    load_ms: float


def profile_opened(opened: Opened, before: Machine, sensor: Sensor, settings: ProfileSettings) -> dict[str, Any]:
    """Measure an opened model; `before` is the machine before it was opened, `sensor` measures energy."""
    session, feeds = opened.session, opened.feeds

    def run() -> object:
        return session.run(feeds)

    started = time.perf_counter()
    run()
    first_call_ms = (time.perf_counter() - started) * 1e3
    run()
    peak_mib = peak_memory_mib()
    latency = measure(run, duration_s=settings.duration_s)
    after = read_machine()
    return {
        "session": session.describe(),
        "batch": int(next(iter(feeds.values())).shape[0]),
        "latency": latency.to_dict(),
        "cold_start": {"load_ms": opened.load_ms, "first_call_ms": first_call_ms},
        "peak_memory_mib": peak_mib,
        **_energy(session, feeds, sensor, settings.duration_s),
        "layers": profile_layers(opened.runtime, opened.file, feeds, settings.threads) if settings.layers else None,
        "sustained": None if settings.sustained_s is None else sustain(run, settings.sustained_s, read_machine),
        "warnings": notes_on(before, after, latency),
        "before": before.to_dict(),
        "after": after.to_dict(),
    }


def _energy(session: Session, feeds: dict[str, Array], sensor: Sensor, duration_s: float) -> dict[str, Any]:
    """Return `energy`, None where it could not be measured, and `energy_absent`, why."""
    try:
        found = measure_energy(lambda: session.run(feeds), sensor, duration_s=duration_s, idle_s=duration_s / 2)
    except CheckFailed as failure:
        return {"energy": None, "energy_absent": str(failure)}
    return {"energy": found.to_dict(), "energy_absent": None}


def notes_on(before: Machine, after: Machine, latency: Latency) -> list[str]:
    """Return what makes this profile less trustworthy; a state that lasted is named once."""
    after = replace(after, load_1min=None)  # the profiler's own load
    notes = {note.partition(":")[0]: note for note in warnings(before) + warnings(after)}
    found = list(notes.values())
    if not latency.steady:
        found.append("the times had not settled when the warm-up ended")
    drift = latency.drift_percent
    if drift is not None and abs(drift) > _DRIFT_PERCENT:
        found.append(
            f"the calls became {abs(drift):.0f} % {'slower' if drift > 0 else 'faster'} during the measurement"
        )
    return found
