"""The latency and energy of an artifact or ONNX file on this machine."""

from pathlib import Path
from typing import Any

from edgekd.device import profiler
from edgekd.device.imx500 import PACKED, profile_camera
from edgekd.device.profile import ProfileSettings, Say
from edgekd.errors import InputError, device_errors_as
from edgekd.verbs.timed_model import Shapes, launchable


@device_errors_as(InputError)
def profile(
    path: Path,
    settings: ProfileSettings | None = None,
    *,
    batch: int | None = None,
    runtime: str | None = None,
    shapes: Shapes = (),
    say: Say = lambda message: None,
) -> dict[str, Any]:
    """Measure load time, first call, latency, peak memory, and what else the settings ask for, in processes that hold the runtime alone.

    Args:
        path: Of an artifact (or a run's), an ONNX file or, on a Raspberry Pi, the IMX500's packed network.
        settings: What is measured.
        batch: Samples a call; None is the model's own, or 1.
        runtime: Another one than the model is for.
        shapes: Of inputs, as `shapes.named_shape` reads them.
        say: Takes a line before each part that takes long.

    Raises:
        InputError: it is neither, the batch or a shape does not fit, or there is no sensor, counter or runtime of this name.
        ToolMissing: the runtime is not installed.
        StageError: the processor is emulated, where wall time is not latency, or the model took its process along or too long.
    """
    settings = settings or ProfileSettings()
    if path.suffix == PACKED:
        return profile_camera(path, settings.duration_s)
    return profiler.profile(launchable(path, batch, runtime, shapes=shapes), settings, say)
