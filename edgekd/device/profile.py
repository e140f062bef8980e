"""What a profile holds: first call, latency, memory, and on demand energy, layers, batches and a long run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .arrays import Array
from .end_to_end import Size, frames_per_second, profile_end_to_end
from .energy import measure_energy
from .errors import CheckFailed, figure_or_reason
from .feeds import batch_size
from .instructions import instructions_of_a_call
from .instructions.counter import InstructionCounter, count_instructions
from .instructions.instruction_clock import InstructionClock
from .latency import Latency, measure
from .layers import profile_layers
from .machine import Machine, peak_memory_mib, read_machine, warnings
from .manifest import Manifest
from .runtimes.session import Session
from .sensors.sensor import Sensor
from .sustained import sustain
from .throughput import profile_throughput

Say = Callable[[str], None]

_DRIFT_PERCENT = 5.0
_NO_TIME = "this machine's clock counts instructions: no time here is latency"
_WITH_REASON = ("latency", "end_to_end", "energy", "instructions", "throughput")
_WITHOUT_REASON = ("frames_per_second", "cold_start", "peak_memory_mib", "layers", "sustained", "after")


@dataclass(frozen=True)
class ProfileSettings:
    """What is measured.

    `duration_s` is the longest time for the timed calls, and again for those whose energy is measured. `batch` is the model's
    own, or 1, where it is None; `runtime` is the one that the model is for. `sensor` is a name of `sensors`, `counter` one of
    `instructions`. `frame` is the width and height of the camera's frame. `throughput` adds larger batches, `layers` the runtime's
    own profile, `sustained_s` a long run of so many seconds.
    """

    duration_s: float = 10.0
    threads: int = 1
    batch: int | None = None
    runtime: str | None = None
    sensor: str = "auto"
    counter: str = "auto"
    frame: Size | None = None
    throughput: bool = False
    layers: bool = False
    sustained_s: float | None = None


@dataclass(frozen=True)
class Opened:
    """A model that a runtime has opened: its name and precision, its file, one call's inputs, and what opening it took.

    A file without an artifact has no manifest.
    """

    name: str
    precision: str
    runtime: str
    file: Path
    session: Session
    feeds: dict[str, Array]
    load_ms: float
    manifest: Manifest | None = None


def profile_opened(
    opened: Opened,
    before: Machine,
    sensor: Sensor,
    counter: InstructionCounter,
    settings: ProfileSettings,
    say: Say = lambda message: None,
) -> dict[str, Any]:
    """Measure an opened model; `before` is the machine before it was opened, `sensor` measures energy.

    `say` takes a line before each part that takes long.

    A figure that cannot be obtained is None, and `<figure>_absent` says why. Where the machine's clock counts instructions, these
    are the only figure.
    """
    session, feeds, duration_s = opened.session, opened.feeds, settings.duration_s

    def run() -> object:
        return session.run(feeds)

    if isinstance(counter, InstructionClock):
        counted = figure_or_reason("instructions", lambda: count_instructions(run, counter))
        described = {"session": session.describe(), "batch": batch_size(feeds), "before": before.to_dict()}
        return {**absent_profile(_NO_TIME), **described, **counted}
    started = time.perf_counter()
    run()
    first_call_ms = (time.perf_counter() - started) * 1e3
    run()
    peak_mib = peak_memory_mib()
    say(f"latency: at most {duration_s:g} s, after the warm-up")
    latency = measure(run, duration_s=duration_s)
    after = read_machine()
    batch = batch_size(feeds)
    return {
        "session": session.describe(),
        "batch": batch,
        "latency": latency.to_dict(),
        "latency_absent": None,
        "frames_per_second": frames_per_second(latency, batch),
        "cold_start": {"load_ms": opened.load_ms, "first_call_ms": first_call_ms},
        "peak_memory_mib": peak_mib,
        **figure_or_reason(
            "end_to_end",
            lambda: profile_end_to_end(
                session, opened.manifest, batch, frame=settings.frame, duration_s=duration_s / 2
            ),
        ),
        **figure_or_reason(
            "energy",
            lambda: measure_energy(run, sensor, duration_s=duration_s, idle_s=duration_s / 2, say=say).to_dict(),
        ),
        **figure_or_reason(
            "instructions",
            lambda: instructions_of_a_call(counter, run, opened.runtime, opened.file, feeds, settings.threads),
        ),
        **figure_or_reason("throughput", lambda: _throughput(session, feeds, settings, say)),
        "layers": profile_layers(opened.runtime, opened.file, feeds, settings.threads) if settings.layers else None,
        "sustained": None
        if settings.sustained_s is None
        else sustain(run, settings.sustained_s, read_machine, say=say),
        "warnings": notes_on(before, after, latency),
        "before": before.to_dict(),
        "after": after.to_dict(),
    }


def absent_profile(reason: str) -> dict[str, Any]:
    """Return a profile without any figure, and why: what is obtained takes its place."""
    reasons = {f"{name}_absent": reason for name in _WITH_REASON}
    return {**dict.fromkeys((*_WITH_REASON, *_WITHOUT_REASON)), **reasons, "warnings": []}


def _throughput(session: Session, feeds: dict[str, Array], settings: ProfileSettings, say: Say) -> list[dict[str, Any]]:
    if not settings.throughput:
        raise CheckFailed("not asked for: --throughput")
    say("batches of 1, 2, 4, ... samples")
    return profile_throughput(session, feeds, duration_s=settings.duration_s / 4)


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
