"""The latency and energy of an artifact or ONNX file on this machine."""

from pathlib import Path
from typing import Any

from edgekd.device.errors import DeviceError
from edgekd.device.imx500 import PACKED, profile_camera
from edgekd.device.instructions import find_counter
from edgekd.device.instructions.instruction_clock import InstructionClock
from edgekd.device.launches import launcher
from edgekd.device.machine import read_machine, refuse_emulation
from edgekd.device.profile import ProfileSettings, Say, profile_opened
from edgekd.device.sensors import find_sensor
from edgekd.errors import InputError, device_errors_as
from edgekd.verbs.timed_model import identity_of, launchable, open_for_timing

_SHORT_S = 0.01  # of timed calls that nobody looks at


@device_errors_as(InputError)
def profile(path: Path, settings: ProfileSettings | None = None, say: Say = lambda message: None) -> dict[str, Any]:
    """Measure load time, first call, latency, and what else the settings ask for, of an artifact (or a run's), an ONNX file or, on a Raspberry Pi, the IMX500's packed network.

    The peak memory is that of a process of its own: this one holds edgekd as well.

    Raises:
        InputError: it is neither, the batch does not fit, or there is no sensor, counter or runtime of this name.
        StageError: the processor is emulated, where wall time is not latency.
    """
    settings = settings or ProfileSettings()
    if path.suffix == PACKED:
        return profile_camera(path, settings.duration_s)
    before = read_machine()
    sensor, counter = find_sensor(settings.sensor), find_counter(settings.counter)
    if not isinstance(counter, InstructionClock):
        refuse_emulation(before)
    opened = open_for_timing(path, settings.threads, settings.batch, settings.runtime)
    measured = profile_opened(opened, before, sensor, counter, settings, say)
    return {"artifact": identity_of(opened), **measured, "peak_memory_mib": _peak_memory_mib(path, settings)}


def _peak_memory_mib(path: Path, settings: ProfileSettings) -> float | None:
    """Return the most memory that a process with the runtime and this model alone holds, None where it cannot be told."""
    subject = launchable(path, settings.batch, settings.runtime)
    try:
        launch = launcher.start({"candidate": subject}, threads=settings.threads, duration_s=_SHORT_S)
    except DeviceError:
        return None
    memory: float | None = launch.result["models"]["candidate"]["memory_mib"]
    return memory
