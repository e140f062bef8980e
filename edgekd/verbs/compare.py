"""Which of two artifacts or ONNX files is faster on this machine."""

from pathlib import Path
from typing import Any

from edgekd.device.comparison import compare as interleave_two
from edgekd.device.feeds import batch_size
from edgekd.device.machine import read_machine, refuse_emulation, warnings
from edgekd.errors import InputError, device_errors_as
from edgekd.verbs.timed_model import identity_of, open_for_timing


@device_errors_as(InputError)
def compare(
    path: Path, other: Path, *, duration_s: float = 10.0, threads: int = 1, batch: int | None = None
) -> dict[str, Any]:
    """Measure two in interleaved blocks; the speed-up above 1 says that the first one is faster.

    Raises:
        InputError: one is neither an artifact nor an ONNX file, or the batch does not fit.
        StageError: the processor is emulated, where wall time is not latency.
    """
    before = read_machine()
    refuse_emulation(before)
    one, two = open_for_timing(path, threads, batch), open_for_timing(other, threads, batch)
    sizes = [batch_size(opened.feeds) for opened in (one, two)]
    if sizes[0] != sizes[1]:
        raise InputError(f"{path} takes {sizes[0]} sample(s) a call, {other} takes {sizes[1]}: a ratio means nothing")
    result = interleave_two(
        lambda: two.session.run(two.feeds), lambda: one.session.run(one.feeds), blocks=10_000, duration_s=duration_s
    )
    return {
        "candidate": {**identity_of(one), "path": str(path)},
        "baseline": {**identity_of(two), "path": str(other)},
        "batch": sizes[0],
        "comparison": result.to_dict(),
        "warnings": warnings(before),
        "before": before.to_dict(),
    }
