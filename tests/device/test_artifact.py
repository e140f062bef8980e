from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd.device.artifact import open_artifact
from edgekd.device.errors import CheckFailed, DeviceError, RuntimeMissing
from edgekd.device.runtimes.session import TensorInfo


def test_sound_artifact_opens(artifact: Path) -> None:
    opened = open_artifact(artifact, threads=1)
    assert opened.load_ms > 0 and opened.manifest.name == "classifier"


def test_model_with_another_signature_is_refused(make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact(inputs=(TensorInfo("image", ("batch", 3, 8, 8), "float32"),))
    with pytest.raises(CheckFailed, match=r"model.onnx has inputs image float32\['batch', 1, 8, 8\]"):
        open_artifact(folder)


@pytest.mark.parametrize("name", ["onnxruntime", "numpy", "python"])
def test_wrong_version_is_refused_before_the_model_is_opened(make_artifact: Callable[..., Path], name: str) -> None:
    folder = make_artifact(versions={name: ">=99", "torch": ">=99"})
    with pytest.raises(RuntimeMissing, match=f"^{name} .* needs >=99"):
        open_artifact(folder)


def test_unknown_runtime_is_refused(make_artifact: Callable[..., Path]) -> None:
    with pytest.raises(DeviceError, match="unknown runtime 'abacus'"):
        open_artifact(make_artifact(runtime="abacus"))
