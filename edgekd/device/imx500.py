"""Sony's IMX500, a camera whose sensor runs the network: its own times, as the Raspberry Pi's camera library reads them.

```
network.rpk --> upload into the sensor --> each frame's metadata: CnnKpiInfo = (network, pre-processing) in microseconds
```
Pixels do not leave the sensor before the network has seen them, so nothing can be timed from outside. The packed file is made on
the Raspberry Pi by `imx500-package`.
"""

import importlib
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import CheckFailed, DeviceError, RuntimeMissing
from .latency import Latency
from .machine import read_machine, warnings
from .profile import absent_profile

PACKED = ".rpk"
_INSTALL = (
    "picamera2 is not installed: on the Raspberry Pi with the camera, sudo apt install imx500-all python3-picamera2"
)
_TIMES = "CnnKpiInfo"
_TIMESTAMP = "SensorTimestamp"  # nanoseconds
_WARM_UP_FRAMES = 10
Metadata = Mapping[str, Any]


def profile_camera(path: Path, duration_s: float = 10.0) -> dict[str, Any]:
    """Upload a packed network into the sensor and return what it says of every frame, in the form of a profile.

    Raises:
        DeviceError: The file does not exist.
        RuntimeMissing: The camera library is not installed.
        CheckFailed: There is no such camera, or it tells no times.
    """
    if not path.is_file():
        raise DeviceError(f"{path} does not exist")
    camera_library = _picamera2()
    before = read_machine()
    started = time.perf_counter()
    try:
        camera = _open(camera_library, path)
    except Exception as error:
        raise CheckFailed(f"the camera does not take {path.name}: {error}") from error
    load_ms = (time.perf_counter() - started) * 1e3
    try:
        found = summarize(_frames(camera, duration_s))
    finally:
        camera.stop()
    after = read_machine()
    session = {
        "runtime": "picamera2",
        "version": str(getattr(camera_library, "__version__", "unknown")),
        "provider": "IMX500",
        "threads": "0",
    }
    return {
        "artifact": {"name": path.stem, "precision": "int8"},
        **absent_profile("the IMX500 tells the times of its network, nothing else"),
        **found,
        "session": session,
        "batch": 1,
        "cold_start": {"load_ms": load_ms, "first_call_ms": None},
        "warnings": list(dict.fromkeys(warnings(before) + warnings(after))),
        "before": before.to_dict(),
        "after": after.to_dict(),
    }


def summarize(frames: Iterable[Metadata]) -> dict[str, Any]:
    """Return latency, pre-processing time and frames a second of the frames after the first ten.

    Raises:
        CheckFailed: They tell no times.
    """
    told = [frame for frame in frames if frame.get(_TIMES) is not None][_WARM_UP_FRAMES:]
    if len(told) < 2:
        raise CheckFailed("the camera told the times of fewer than two frames: measure for longer")
    times = np.array([frame[_TIMES][:2] for frame in told], dtype=np.float64) / 1e3
    seconds = (told[-1][_TIMESTAMP] - told[0][_TIMESTAMP]) / 1e9
    return {
        "latency": Latency.from_samples(times[:, 0], warmup_calls=_WARM_UP_FRAMES, steady=True).to_dict(),
        "latency_absent": None,
        "preprocess_p50_ms": float(np.median(times[:, 1])),
        "frames_per_second": (len(told) - 1) / seconds if seconds > 0 else None,
    }


def _frames(camera: Any, duration_s: float) -> Iterator[Metadata]:
    end = time.perf_counter() + duration_s
    while time.perf_counter() < end:
        yield camera.capture_metadata()


def _open(library: Any, path: Path) -> Any:
    devices = importlib.import_module("picamera2.devices")
    chip = devices.IMX500(str(path))  # before the camera is opened: it chooses the network
    camera = library.Picamera2(chip.camera_num)
    camera.start(camera.create_preview_configuration(buffer_count=12), show_preview=False)
    return camera


def _picamera2() -> Any:
    try:
        return importlib.import_module("picamera2")
    except ImportError as error:
        raise RuntimeMissing(_INSTALL) from error
