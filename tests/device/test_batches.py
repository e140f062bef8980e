from pathlib import Path

import numpy as np
import pytest

from edgekd.device.arrays import Array
from edgekd.device.batches import run_all
from edgekd.device.errors import DeviceError
from edgekd.device.runtimes import open_session
from edgekd.device.runtimes.session import Session, TensorInfo

from .conftest import reference, save_classifier


class Recorder(Session):
    """Adds one to `x`, and notes the batches it was given."""

    def __init__(self, batch: int | str, joined: bool = True) -> None:
        self.inputs = [TensorInfo("x", (batch, 2), "float32")]
        self.outputs = [TensorInfo("y", (batch, 2), "float32")]
        self.batches: list[int] = []
        self._joined = joined

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        self.batches.append(len(feeds["x"]))
        return {"y": feeds["x"] + 1 if self._joined else feeds["x"].sum()}

    def describe(self) -> dict[str, str]:
        return {}


@pytest.mark.parametrize(("batch", "expected"), [("batch", [1] * 5), (2, [2, 2, 2]), (5, [5]), (8, [8])])
def test_samples_are_run_in_the_model_s_batches(batch: int | str, expected: list[int]) -> None:
    session = Recorder(batch)
    samples = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.testing.assert_array_equal(run_all(session, {"x": samples})["y"], samples + 1)
    assert session.batches == expected


def test_output_without_samples_is_computed_at_once_or_refused() -> None:
    samples = np.ones((5, 2), np.float32)
    assert run_all(Recorder("batch", joined=False), {"x": samples})["y"] == 10
    with pytest.raises(DeviceError, match="2 sample"):
        run_all(Recorder(2, joined=False), {"x": samples})


def test_real_model_with_a_fixed_batch(tmp_path: Path) -> None:
    save_classifier(tmp_path / "model.onnx", batch=4)
    images = np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype(np.float32)
    session = open_session("onnxruntime", tmp_path / "model.onnx")
    np.testing.assert_allclose(run_all(session, {"image": images})["logits"], reference(images), rtol=1e-4, atol=1e-4)
