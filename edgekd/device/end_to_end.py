"""From the camera's frame to the decision: what a person waits for is more than the runtime's call.

```
uint8 frame --| preprocess: crop, resize, normalize |--| runtime |--| postprocess: best labels, or the class of each pixel |--
```
Pre- and postprocessing are those of this package, in numpy; one written in C would take less.
"""

import time
from array import array
from typing import Any

import numpy as np

from .errors import CheckFailed
from .feeds import from_frames
from .latency import Clock, Latency, measure
from .manifest import Manifest
from .postprocessing import decide
from .runtimes.session import Session, TensorInfo

Size = tuple[int, int]


def profile_end_to_end(
    session: Session,
    manifest: Manifest | None,
    batch: int,
    *,
    frame: Size | None = None,
    duration_s: float = 5.0,
    clock: Clock = time.perf_counter_ns,
) -> dict[str, Any]:
    """Time frames from raw bytes to the decision, and each of the three parts.

    Args:
        session: The opened model.
        manifest: Says what pre- and postprocessing are.
        batch: Frames at a time.
        frame: Width and height of the camera's frame; the model's own where it is None.
        duration_s: Longest time, in seconds.
        clock: Nanoseconds; replaced in tests.

    Raises:
        CheckFailed: It is not known how raw frames become the model's input.
    """
    if manifest is None or manifest.preprocessing is None:
        raise CheckFailed("the model's preprocessing is not known: an artifact whose model.toml names it says so")
    preprocessing, info = manifest.preprocessing, manifest.inputs[0]
    if len(manifest.inputs) != 1 or len(info.shape) != 4:
        raise CheckFailed("only models with one input of images are timed from the frame on")
    frames = _frames(info, preprocessing.layout, batch, frame)
    parts = {name: array("q") for name in ("preprocess", "runtime", "postprocess")}

    def run() -> None:
        began = clock()
        feeds = {info.name: from_frames(frames, info, preprocessing)}
        prepared = clock()
        outputs = session.run(feeds)
        answered = clock()
        decide(manifest.task, manifest.labels, outputs[manifest.outputs[0].name])
        decided = clock()
        for part, nanoseconds in zip(
            parts.values(), (prepared - began, answered - prepared, decided - answered), strict=True
        ):
            part.append(nanoseconds)

    latency = measure(run, duration_s=duration_s, clock=clock)
    return {
        "frame": [int(size) for size in frames.shape[1:]],
        **{f"{name}_p50_ms": float(np.median(part[-latency.n :])) / 1e6 for name, part in parts.items()},
        "latency": latency.to_dict(),
        "frames_per_second": frames_per_second(latency, batch),
    }


def frames_per_second(latency: Latency, batch: int) -> float:
    """Return how many frames a second go through one after the other: by the mean, for stalls count as well."""
    return 1e3 * batch / latency.mean_ms


def _frames(info: TensorInfo, layout: str, batch: int, frame: Size | None) -> "np.ndarray[Any, Any]":
    channels, height, width = (info.shape[layout.index(axis)] for axis in "CHW")
    if frame is not None:
        width, height = frame
    if not (isinstance(channels, int) and isinstance(height, int) and isinstance(width, int)):
        raise CheckFailed("the model takes images of any size: say which with --frame WIDTHxHEIGHT")
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, channels)).astype(np.uint8)
