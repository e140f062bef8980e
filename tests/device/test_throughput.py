"""Batches grow until they no longer pay, or until one cannot be run."""

from typing import Any

import pytest

from edgekd.device.errors import CheckFailed
from edgekd.device.throughput import LARGEST_BATCH, profile_throughput


def timed(batch: int, pays_up_to: int = 10_000, fits_up_to: int = 10_000) -> dict[str, Any]:
    """A call takes a millisecond, however many samples share it, up to `pays_up_to`; above `fits_up_to` memory is short."""
    if batch > fits_up_to:
        raise CheckFailed("was killed (SIGKILL)")
    latency_ms = max(1.0, batch / pays_up_to)
    return {"latency": {"p50_ms": latency_ms, "mean_ms": latency_ms}, "memory_mib": None}


@pytest.mark.parametrize(
    ("limits", "tried", "ended"),
    [
        ({"pays_up_to": 2}, [1, 2, 4], "no longer pay"),
        ({}, [1, 2, 4, 8, 16, 32, LARGEST_BATCH], "the most that are tried"),
        ({"fits_up_to": 11}, [1, 2, 4, 8], "with 16 samples was killed"),
    ],
)
def test_what_was_measured_and_what_ended_it(limits: dict[str, int], tried: list[int], ended: str) -> None:
    found, reason = profile_throughput(lambda batch: timed(batch, **limits))
    assert [one["batch"] for one in found] == tried and ended in reason
    worth = limits.get("pays_up_to", 10_000)
    assert [one["samples_per_second"] for one in found] == pytest.approx([1e3 * min(one, worth) for one in tried])


def test_a_model_that_runs_with_no_batch_has_no_throughput() -> None:
    with pytest.raises(CheckFailed, match="SIGKILL"):
        profile_throughput(lambda batch: timed(batch, fits_up_to=0))
