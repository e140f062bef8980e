"""The latency and energy of an artifact or ONNX file on this machine."""

from pathlib import Path
from typing import Any

from edgekd.device.commands import profile_session
from edgekd.device.layers import profile_layers
from edgekd.device.machine import read_machine
from edgekd.device.sensors import find_sensor
from edgekd.errors import InputError, device_errors_as
from edgekd.verbs.timed_model import identity_of, open_for_timing, refuse_emulation


@device_errors_as(InputError)
def profile(
    path: Path,
    *,
    duration_s: float = 10.0,
    threads: int = 1,
    batch: int | None = None,
    sensor: str = "auto",
    layers: bool = False,
) -> dict[str, Any]:
    """Measure load time, first call, latency and energy of an artifact (or a run's) or an ONNX file.

    The peak memory is None: this process holds edgekd as well, `run.pyz profile` holds only the runtime.

    Raises:
        InputError: it is neither, the batch does not fit, or there is no sensor of this name.
        StageError: the processor is emulated, where wall time is not latency.
    """
    before = read_machine()
    refuse_emulation(before.emulated)
    meter = find_sensor(sensor)
    opened = open_for_timing(path, threads, batch)
    measured = profile_session(opened.session, opened.feeds, before, opened.load_ms, duration_s, meter)
    found = profile_layers(opened.runtime, opened.file, opened.feeds, threads) if layers else None
    return {"artifact": identity_of(opened), **measured, "peak_memory_mib": None, "layers": found}
