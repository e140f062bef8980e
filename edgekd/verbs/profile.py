"""The latency and energy of an artifact or ONNX file on this machine."""

from pathlib import Path
from typing import Any

from edgekd.device.imx500 import PACKED, profile_camera
from edgekd.device.instructions import find_counter
from edgekd.device.instructions.instruction_clock import InstructionClock
from edgekd.device.machine import read_machine
from edgekd.device.profile import ProfileSettings, Say, profile_opened
from edgekd.device.sensors import find_sensor
from edgekd.errors import InputError, device_errors_as
from edgekd.verbs.timed_model import identity_of, open_for_timing, refuse_emulation


@device_errors_as(InputError)
def profile(path: Path, settings: ProfileSettings | None = None, say: Say = lambda message: None) -> dict[str, Any]:
    """Measure load time, first call, latency, and what else the settings ask for, of an artifact (or a run's), an ONNX file or, on a Raspberry Pi, the IMX500's packed network.

    The peak memory is None: this process holds edgekd as well, `run.pyz profile` holds only the runtime.

    Raises:
        InputError: it is neither, the batch does not fit, or there is no sensor, counter or runtime of this name.
        StageError: the processor is emulated, where wall time is not latency.
    """
    settings = settings or ProfileSettings()
    if path.suffix == PACKED:
        return {"artifact": {"name": path.stem, "precision": "int8"}, **profile_camera(path, settings.duration_s)}
    before = read_machine()
    sensor, counter = find_sensor(settings.sensor), find_counter(settings.counter)
    refuse_emulation(before.emulated and not isinstance(counter, InstructionClock))
    opened = open_for_timing(path, settings.threads, settings.batch, settings.runtime)
    measured = profile_opened(opened, before, sensor, counter, settings, say)
    return {"artifact": identity_of(opened), **measured, "peak_memory_mib": None}
