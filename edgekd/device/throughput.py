"""How many samples a second go through, when several share a call."""

from collections.abc import Callable
from typing import Any

from .errors import DeviceError

LARGEST_BATCH = 64
_WORTH_IT = 1.05  # a batch twice as large must give so many times the samples a second for the search to go on


def profile_throughput(time_batch: Callable[[int], dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Time batches of 1, 2, 4, ... samples until twice as many no longer pay; return each with its samples a second, and what ended it.

    Args:
        time_batch: Returns `latency` (of a call, as `Latency.to_dict` gives it) and `memory_mib` of a batch.

    Raises:
        DeviceError: Not even one sample can be run.
    """
    found: list[dict[str, Any]] = []
    batch = 1
    ended = f"{LARGEST_BATCH} samples are the most that are tried"
    while batch <= LARGEST_BATCH:
        try:
            timed = time_batch(batch)
        except DeviceError as error:
            if not found:
                raise
            ended = f"with {batch} samples {error}"
            break
        latency = timed["latency"]
        found.append(
            {
                "batch": batch,
                "p50_ms": latency["p50_ms"],
                "mean_ms": latency["mean_ms"],
                "samples_per_second": 1e3 * batch / latency["mean_ms"],
                "peak_memory_mib": timed["memory_mib"],
            }
        )
        if len(found) > 1 and found[-1]["samples_per_second"] < _WORTH_IT * found[-2]["samples_per_second"]:
            ended = "twice as many no longer pay"
            break
        batch *= 2
    return found, ended
