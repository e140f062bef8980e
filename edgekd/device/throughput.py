"""How many samples a second go through, when several share a call."""

import time
from typing import Any

import numpy as np

from .arrays import Array
from .errors import CheckFailed
from .latency import Clock, measure
from .runtimes.session import Session

LARGEST_BATCH = 64
_WORTH_IT = 1.05  # a batch twice as large must give so many times the samples a second for the search to go on


def profile_throughput(
    session: Session, feeds: dict[str, Array], *, duration_s: float = 2.0, clock: Clock = time.perf_counter_ns
) -> list[dict[str, Any]]:
    """Time batches of 1, 2, 4, ... samples until twice as many no longer pay; return each with its samples a second.

    Args:
        session: The opened model.
        feeds: One call's inputs; samples are repeated to fill a batch.
        duration_s: Longest time for each batch, in seconds.
        clock: Nanoseconds; replaced in tests.

    Raises:
        CheckFailed: The model was exported with a fixed batch.
    """
    batched = [info.name for info in session.inputs if info.shape and isinstance(info.shape[0], str)]
    if not batched:
        raise CheckFailed("the model was exported with a fixed batch: export it with a free one (export.batch)")
    found: list[dict[str, Any]] = []
    batch = 1
    while batch <= LARGEST_BATCH:
        inputs = {name: _repeated(array, batch) if name in batched else array for name, array in feeds.items()}
        latency = measure(lambda inputs=inputs: session.run(inputs), duration_s=duration_s, clock=clock)  # type: ignore[misc]
        found.append(
            {
                "batch": batch,
                "p50_ms": latency.p50_ms,
                "mean_ms": latency.mean_ms,
                "samples_per_second": 1e3 * batch / latency.mean_ms,
            }
        )
        if len(found) > 1 and found[-1]["samples_per_second"] < _WORTH_IT * found[-2]["samples_per_second"]:
            break
        batch *= 2
    return found


def _repeated(array: Array, batch: int) -> Array:
    return np.ascontiguousarray(array[np.arange(batch) % len(array)])
