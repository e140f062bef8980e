"""Profile a model: in a process of its own, and each larger batch in another one."""

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from . import profile as profiling
from .errors import NOT_ASKED, CheckFailed, DeviceError, figure_or_reason
from .instructions import find_counter
from .instructions.instruction_clock import InstructionClock
from .launches import launcher
from .launches.process import run_apart
from .launches.subject import Subject
from .machine import read_machine, refuse_emulation
from .profile import ProfileSettings, Say
from .throughput import profile_throughput


def profile(subject: Subject, settings: ProfileSettings, say: Say = lambda message: None) -> dict[str, Any]:
    """Measure load time, first call, latency, peak memory, and what else the settings ask for.

    Raises:
        CheckFailed: The processor is emulated, where wall time is not latency; or the model took its process along, or too long.
        DeviceError: There is no sensor, counter or runtime of this name, or the runtime refuses the model.
        RuntimeMissing: The runtime is not installed, or has the wrong version.
    """
    if not isinstance(find_counter(settings.counter), InstructionClock):
        refuse_emulation(read_machine())
    with tempfile.TemporaryDirectory(prefix="edgekd-profile-") as place:
        found = run_apart(
            profiling.__name__,
            {"candidate": subject},
            {"settings": asdict(settings)},
            Path(place),
            limit_s=settings.time_limit_s(),
            say=say,
        )
    if found["latency"] is not None:
        obtained = figure_or_reason("throughput", lambda: _throughput(subject, settings, say), DeviceError)
        batches, ended = obtained["throughput"] or (None, None)
        found |= obtained | {"throughput": batches, "throughput_ended": ended}
    return {"artifact": subject.to_dict(), **found}


def _throughput(subject: Subject, settings: ProfileSettings, say: Say) -> tuple[list[dict[str, Any]], str]:
    if not settings.throughput:
        raise CheckFailed(f"{NOT_ASKED}: --throughput")
    if not subject.batched:
        raise CheckFailed("the model was exported with a fixed batch: export it with a free one (export.batch)")

    def time_batch(batch: int) -> dict[str, Any]:
        say(f"a batch of {batch}")
        launch = launcher.start(
            {"candidate": replace(subject, feeds=subject.repeated(batch))},
            threads=settings.threads,
            duration_s=settings.duration_s / 4,
            limit_s=settings.time_limit_s(),
        )
        found: dict[str, Any] = launch.result["models"]["candidate"]
        return found

    return profile_throughput(time_batch)
