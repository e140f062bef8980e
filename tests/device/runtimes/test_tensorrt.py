"""NVIDIA's parser and builder run without a GPU in TensorRT-RTX; what the GPU alone can do says what is missing."""

import json
from pathlib import Path

import pytest

from edgekd.device.errors import DeviceError, RuntimeMissing
from edgekd.device.runtimes import open_session, usable_here
from edgekd.device.runtimes.tensorrt import build_plan, layer_kinds, usable


def test_without_it_the_next_step_is_named(artifact: Path) -> None:
    if usable():
        pytest.skip("there is an NVIDIA GPU with TensorRT here")
    assert not usable_here("tensorrt")
    with pytest.raises(RuntimeMissing, match="JetPack brings it|no NVIDIA GPU"):
        open_session("tensorrt", artifact / "model.onnx")


def test_the_real_parser_and_builder_take_a_free_batch_and_name_what_they_refuse(
    artifact: Path, tmp_path: Path
) -> None:
    package = pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx==1.7.1.116")
    logger = package.Logger(package.Logger.ERROR)
    assert len(bytes(build_plan(package, logger, artifact / "model.onnx"))) > 1000
    (tmp_path / "bad.onnx").write_bytes(b"junk")
    with pytest.raises(DeviceError, match=r"cannot open bad\.onnx: .+"):
        build_plan(package, logger, tmp_path / "bad.onnx")


def test_operators_and_types_are_read_from_the_inspector() -> None:
    layers = [
        {
            "Name": "conv1/Conv + relu",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Format/Datatype": "Row major Int8 format"}],
        },
        {"Name": "reformat", "LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
        {"Name": "fc", "LayerType": "gemm", "Inputs": [{"Format/Datatype": "Half"}]},
        {"Name": "bare"},
        "a name only, as with less than detailed verbosity",
    ]
    assert layer_kinds(json.dumps({"Layers": layers})) == {
        "conv1/Conv + relu": ("CaskConvolution", "int8"),
        "reformat": ("Reformat", "float32"),
        "fc": ("gemm", "float16"),
        "bare": ("unknown", None),
    }
