"""Batches grow until they no longer pay, on a session whose time is known."""

from pathlib import Path

import numpy as np
import pytest

from edgekd.device.errors import CheckFailed
from edgekd.device.runtimes import open_session
from edgekd.device.throughput import LARGEST_BATCH, profile_throughput

from .conftest import save_classifier
from .fake_clock import FakeClock


class Overhead:
    """One millisecond a call, however many samples; `limit` samples at most are worth it."""

    def __init__(self, limit: int) -> None:
        self.limit, self.clock = limit, FakeClock()

    @property
    def inputs(self):  # type: ignore[no-untyped-def]
        from edgekd.device.runtimes.session import TensorInfo

        return [TensorInfo("x", ("batch", 3), "float32"), TensorInfo("table", (7,), "float32")]

    def run(self, feeds):  # type: ignore[no-untyped-def]
        assert feeds["table"].shape == (7,)
        batch = len(feeds["x"])
        self.clock.pass_ms(max(1.0, batch / self.limit))
        return {}


@pytest.mark.parametrize(("limit", "tried"), [(2, [1, 2, 4]), (10_000, [1, 2, 4, 8, 16, 32, LARGEST_BATCH])])
def test_batches_double_until_they_no_longer_pay(limit: int, tried: list[int]) -> None:
    session = Overhead(limit)
    feeds = {"x": np.zeros((1, 3), np.float32), "table": np.zeros(7, np.float32)}
    found = profile_throughput(session, feeds, clock=session.clock)  # type: ignore[arg-type]
    assert [one["batch"] for one in found] == tried
    assert [one["samples_per_second"] for one in found] == pytest.approx([1e3 * min(batch, limit) for batch in tried])


def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    save_classifier(tmp_path / "model.onnx", batch=1)
    with pytest.raises(CheckFailed, match="fixed batch"):
        profile_throughput(
            open_session("onnxruntime", tmp_path / "model.onnx"), {"image": np.zeros((1, 1, 8, 8), np.float32)}
        )
