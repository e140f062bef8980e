"""An ONNX file as torch's old exporter wrote them goes all the way: odd names, weights among the inputs, opset 11."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .conftest import Cli


def old_file(path: Path) -> None:
    generator = np.random.default_rng(0)
    sizes = {
        "0.weight": (8, 1, 3, 3),
        "1.weight": (16, 8, 3, 3),
        "1.bias": (16,),
        "2.weight": (10, 16),
        "2.bias": (10,),
    }
    weights = {name: generator.normal(0, 0.3, size).astype(np.float32) for name, size in sizes.items()}
    nodes = [
        helper.make_node("Conv", ["input.1", "0.weight"], ["5"]),
        helper.make_node("Relu", ["5"], ["6"]),
        helper.make_node("Conv", ["6", "1.weight", "1.bias"], ["input.3"]),
        helper.make_node("Relu", ["input.3"], ["8"]),
        helper.make_node("GlobalAveragePool", ["8"], ["9"]),
        helper.make_node("Flatten", ["9"], ["10"]),
        helper.make_node("Gemm", ["10", "2.weight", "2.bias"], ["495"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "torch-jit-export",
        [
            helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["N", 1, 28, 28]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes.items()),
        ],
        [helper.make_tensor_value_info("495", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, ir_version=3, opset_imports=[helper.make_opsetid("", 11)]), str(path))


def test_an_old_file_is_quantized_and_verified(cli: Cli, data: Path) -> None:
    old_file(Path("old.onnx"))
    with np.load(data) as arrays:
        np.savez("data.npz", x=arrays["image"].astype(np.float32) / 255, y=arrays["y"], held_out=arrays["held_out"])
    arguments = ("quantize", "old.onnx", "-t", "raspberry-pi-5", "--data", "data.npz", "--calibrator", "mse")
    made = cli(*arguments, "-o", "run")
    assert made.code == 0 and "converted from opset 11 to 13" in made.err, made.err
    assert onnx.load("run/artifact/model.onnx").opset_import[0].version == 13
    manifest = json.loads(Path("run/artifact/manifest.json").read_text())
    assert [spec["name"] for role in ("inputs", "outputs") for spec in manifest[role]] == ["input.1", "495"]
    baseline, int8 = json.loads(Path("run/report.json").read_text())["stages"]
    assert baseline["figures"]["macs"]["value"] == int8["figures"]["macs"]["value"] > 0
    assert cli("verify", "run").code == 0
    assert cli("inspect", "old.onnx").code == 0
