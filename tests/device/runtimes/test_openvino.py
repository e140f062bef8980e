from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.device.errors import DeviceError
from edgekd.device.runtimes import open_session

pytest.importorskip("openvino", reason="needs edgekd[openvino]")


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_input_is_read_anew_in_every_call(artifact: Path, order: Any) -> None:
    session, reference = (open_session(name, artifact / "model.onnx") for name in ("openvino", "onnxruntime"))
    generator = np.random.default_rng(0)
    image = np.asarray(generator.random((1, 1, 8, 8), np.float32), order=order)
    given, seen = [image, image, image.copy(), image], []
    for array in given:
        image[:] = generator.random(image.shape, np.float32)  # the array that is bound already changes as well
        found, wanted = (one.run({"image": array})["logits"] for one in (session, reference))
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        seen.append(found)
    assert len(np.unique(np.concatenate(seen), axis=0)) == len(given)  # what was returned is not overwritten


def test_an_array_that_may_not_be_written_is_read(artifact: Path) -> None:
    image = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    image.flags.writeable = False
    found, wanted = (
        open_session(name, artifact / "model.onnx").run({"image": image})["logits"]
        for name in ("openvino", "onnxruntime")
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("feeds", [{}, {"image": np.zeros((1, 1, 8, 8))}, {"image": np.zeros((1, 9), np.float32)}])
def test_wrong_inputs_are_refused_in_one_line_and_right_ones_still_run(artifact: Path, feeds: dict[str, Any]) -> None:
    session, image = open_session("openvino", artifact / "model.onnx"), np.ones((1, 1, 8, 8), np.float32)
    before = session.run({"image": image})["logits"]
    with pytest.raises(DeviceError, match="cannot run the model") as caught:
        session.run(feeds)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(session.run({"image": image})["logits"], before)
