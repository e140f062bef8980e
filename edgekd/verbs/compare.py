"""Which of two artifacts or ONNX files is faster on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekd.device import compare as comparing
from edgekd.errors import InputError, device_errors_as
from edgekd.verbs.timed_model import Shapes, launchable


@device_errors_as(InputError)
def compare(
    candidate: Path,
    baseline: Path,
    *,
    duration_s: float = 10.0,
    threads: int = 1,
    batch: int | None = None,
    runtime: str | None = None,
    baseline_runtime: str | None = None,
    shapes: Shapes = (),
    limit_s: float | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Time two in turns; a speed-up above 1 says that the first one is faster.

    `runtime` is another one than they are for; `baseline_runtime` is the second one's, where that differs.

    Raises:
        InputError: one is neither an artifact nor an ONNX file, or the batch or a shape does not fit.
        ToolMissing: a runtime is not installed.
        StageError: the processor is emulated, where wall time is not latency, or a model could not be run.
    """
    found = comparing.compare(
        launchable(candidate, batch, runtime, shapes=shapes),
        launchable(baseline, batch, runtime if baseline_runtime is None else baseline_runtime, shapes=shapes),
        duration_s=duration_s,
        threads=threads,
        limit_s=limit_s,
        say=say,
    )
    for role, path in (("candidate", candidate), ("baseline", baseline)):
        found[role]["path"] = str(path)
    return found
