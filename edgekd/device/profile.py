"""What a profile holds: first call, latency, memory, and on demand energy, layers and a long run; in a process of its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .arrays import Array
from .end_to_end import Size, frames_per_second, profile_end_to_end
from .energy import measure_energy
from .errors import NOT_ASKED, CheckFailed, DeviceError, figure_or_reason
from .feeds import batch_size
from .inside import inside_runtime
from .instructions import find_counter, instructions_of_a_call
from .instructions.callgrind import LIMIT_S
from .instructions.counter import InstructionCounter, count_instructions
from .instructions.instruction_clock import InstructionClock
from .latency import Latency, measure
from .launches.noise import disturbances, noise_between, read_counters
from .launches.opened import Opened, open_model
from .launches.process import answer, counting_until, feeds_of
from .launches.settings import MeasuringSettings, longest_s
from .layers import profile_layers
from .machine import Machine, peak_memory_mib, read_machine, warnings
from .sensors import find_sensor
from .sensors.sensor import Sensor
from .sustained import sustain

Say = Callable[[str], None]

_DRIFT_PERCENT = 5.0
_NO_TIME = "this machine's clock counts instructions: no time here is latency"
_FIGURES = ("latency", "end_to_end", "energy", "instructions", "throughput", "layers", "sustained")
_BESIDE_LATENCY = (
    "inside_runtime",
    "frames_per_second",
    "cold_start",
    "peak_memory_mib",
    "after",
)  # None without a reason of their own


@dataclass(frozen=True)
class ProfileSettings(MeasuringSettings):
    """What is measured.

    `duration_s` is the longest time for the timed calls, and again for those whose energy is measured. `frame` is the width and
    height of the camera's frame. `throughput` adds larger batches, `layers` the runtime's own profile, `sustained_s` a long run
    of so many seconds. A process that takes longer than `limit_s` is ended; None is ten minutes and ten times as long as it
    measures.
    """

    frame: Size | None = None
    throughput: bool = False
    layers: bool = False
    sustained_s: float | None = None
    limit_s: float | None = None

    def time_limit_s(self) -> float:
        """Return after how many seconds a process is ended."""
        return self.limit_s or longest_s(self.duration_s + (self.sustained_s or 0.0))


def main(folder: str) -> None:
    """Profile the model of the job in the folder, `candidate`; its settings are those of `ProfileSettings`."""

    def profiled(job: dict[str, Any], place: Path) -> dict[str, Any]:
        settings = ProfileSettings(**job["settings"])
        until, before = counting_until(job), read_machine()
        sensor, counter = find_sensor(settings.sensor), find_counter(settings.counter)
        opened = open_model(job["models"]["candidate"], settings.threads)
        feeds = feeds_of("candidate", place)
        return profile_opened(opened, feeds, before, sensor, counter, settings, partial(print, flush=True), until)

    answer(folder, profiled)


def profile_opened(
    opened: Opened,
    feeds: dict[str, Array],
    before: Machine,
    sensor: Sensor,
    counter: InstructionCounter,
    settings: ProfileSettings,
    say: Say = lambda message: None,
    until: float | None = None,
) -> dict[str, Any]:
    """Measure an opened model with these inputs; `before` is the machine before it was opened, `sensor` measures energy.

    `say` takes a line before each part that takes long. Valgrind comes last and counts up to `until`, of `time.monotonic()`.

    A figure that cannot be obtained is None, and `<figure>_absent` says why; what stands beside the latency has no reason of its
    own. Larger batches are left to other processes. Where the machine's clock counts instructions, these are the only figure.
    """
    session, duration_s = opened.session, settings.duration_s
    described = {"session": session.describe(), "batch": batch_size(feeds), "before": before.to_dict()}

    def run() -> object:
        return session.run(feeds)

    if isinstance(counter, InstructionClock):
        counted = figure_or_reason("instructions", lambda: count_instructions(run, counter))
        return {**absent_profile(_NO_TIME), **described, **counted}
    started = time.perf_counter()
    run()
    first_call_ms = (time.perf_counter() - started) * 1e3
    run()
    peak_mib = peak_memory_mib()
    say(f"latency: at most {duration_s:g} s, after the warm-up")
    counters = read_counters()
    latency = measure(run, duration_s=duration_s)
    noise = noise_between(counters, read_counters()).to_dict()
    after = read_machine()
    batch = batch_size(feeds)

    def end_to_end() -> dict[str, Any]:
        return profile_end_to_end(session, opened.manifest, batch, frame=settings.frame, duration_s=duration_s / 2)

    def energy() -> dict[str, Any]:
        return measure_energy(run, sensor, duration_s=duration_s, idle_s=duration_s / 2, say=say).to_dict()

    def instructions() -> dict[str, Any]:
        limit_s = LIMIT_S if until is None else until - time.monotonic()
        return instructions_of_a_call(counter, run, opened.runtime, opened.file, feeds, settings.threads, limit_s)

    def layers() -> dict[str, Any]:
        if not settings.layers:
            raise CheckFailed(f"{NOT_ASKED}: --layers")
        return profile_layers(opened.runtime, opened.file, feeds, settings.threads)

    def sustained() -> dict[str, Any]:
        if settings.sustained_s is None:
            raise CheckFailed(f"{NOT_ASKED}: --sustained")
        return sustain(run, settings.sustained_s, read_machine, say=say)

    parts = {
        "end_to_end": end_to_end,
        "energy": energy,
        "layers": layers,
        "sustained": sustained,
        "instructions": instructions,
    }
    return {
        **described,
        "latency": latency.to_dict(),
        "latency_absent": None,
        "inside_runtime": inside_runtime(session, feeds, latency.p50_ms),
        "frames_per_second": frames_per_second(latency, batch),
        "cold_start": {"load_ms": opened.load_ms, "first_call_ms": first_call_ms},
        "peak_memory_mib": peak_mib,
        **{
            key: value
            for name, part in parts.items()
            for key, value in figure_or_reason(name, part, DeviceError).items()
        },
        "warnings": notes_on(before, after, latency, noise, settings.threads),
        "noise": noise,
        "after": after.to_dict(),
    }


def absent_profile(reason: str) -> dict[str, Any]:
    """Return a profile without any figure, and why: what is obtained takes its place."""
    reasons = {f"{name}_absent": reason for name in _FIGURES}
    return {**dict.fromkeys((*_FIGURES, *_BESIDE_LATENCY)), **reasons, "warnings": []}


def notes_on(before: Machine, after: Machine, latency: Latency, noise: dict[str, Any], threads: int = 1) -> list[str]:
    """Return what makes this profile less trustworthy; a state that lasted is named once.

    Args:
        before: The machine before the model was opened.
        after: The same after the timed calls.
        latency: What was measured.
        noise: What `noise_between` says of the time in which it was.
        threads: Of the runtime.
    """
    after = replace(after, load_1min=None, pressure_cpu_percent=None)  # its own load; `noise` knows better
    notes = {note.partition(":")[0]: note for note in warnings(before, threads) + warnings(after)}
    found = list(notes.values())
    if disturbed := disturbances([noise]):
        found.append(
            f"while it measured, {'; '.join(disturbed)}: minimum and CPU time are trustworthy, percentiles less"
        )
    if not latency.steady:
        found.append("the times had not settled when the warm-up ended")
    drift = latency.drift_percent
    if drift is not None and abs(drift) > _DRIFT_PERCENT:
        found.append(
            f"the calls became {abs(drift):.0f} % {'slower' if drift > 0 else 'faster'} during the measurement"
        )
    return found
