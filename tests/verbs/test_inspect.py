from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from edgekd.models.network import count_macs
from edgekd.models.networks import NETWORKS
from edgekd.models.signature import Signature, TensorSpec
from edgekd.models.source import Opening
from edgekd.target import Target, load_target
from edgekd.verbs.inspect import input_hint, inspect_model, layers_of, refusal

FACT = {"value": 1, "source": "made up", "confidence": "low"}


def target(runtime: dict[str, Any] | None = None, **limits: Any) -> Target:
    return Target.model_validate(
        {
            "name": "board",
            "title": "A board",
            "family": "board",
            "default_runtime": "onnxruntime",
            "facts": {"cores": FACT},
            "channels": {"granularity": 1, "source": "made up", "confidence": "low"},
            "runtime": {"onnxruntime": {"precisions": ["fp32", "int8"], **(runtime or {})}},
            "limits": limits,
        }
    )


def graph(batch: int | str, *operators: str, opset: int = 20) -> onnx.ModelProto:
    names = [f"t{number}" for number in range(len(operators) + 1)]
    nodes = [helper.make_node(name, [names[i]], [names[i + 1]]) for i, name in enumerate(operators)]
    values = [helper.make_tensor_value_info(names[i], TensorProto.FLOAT, [batch, 3, 8, 8]) for i in (0, -1)]
    made = helper.make_graph(nodes, "g", values[:1], values[1:])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


IMAGE = (TensorSpec(name="t0", shape=("batch", 3, 8, 8)),)


@pytest.mark.parametrize(
    ("board", "parameters", "precision", "proto", "opset", "reason"),
    [
        (target(operators=("Relu",)), 1, "fp32", graph("N", "Relu", "Erf", "Abs"), None, "not execute: Abs, Erf"),
        (target(model_bytes=1_000_000), 1_200_000, "fp32", graph("N", "Relu"), None, "1.2 MB of weights at least, 1.0"),
        (target(memory_bytes=1_000_000), 1_200_000, "fp32", graph("N", "Relu"), None, "1.2 MB of weights at least"),
        (target(input_channels=1), 1, "fp32", graph("N", "Relu"), None, "input t0 has 3 channels, 1 are allowed"),
        (target({"batch": 1}), 1, "fp32", graph(8, "Relu"), None, "the batch is fixed to 8, it takes 1"),
        (target(max_batch=4), 1, "fp32", graph(8, "Relu"), None, "the batch is fixed to 8, it takes 4 at most"),
        (target({"opset": 18}), 1, "fp32", graph("N", "Relu"), 20, "the file has opset 20, it takes up to 18"),
        (target({"precisions": ["fp32"]}), 1, "int8", graph("N", "Relu"), 20, "the file is int8, it runs fp32"),
        (target(), 1, "fp32", None, None, "cannot be written as ONNX"),
    ],
)
def test_refusals(
    board: Target, parameters: int, precision: str, proto: onnx.ModelProto | None, opset: int | None, reason: str
) -> None:
    (found,) = refusal(board, parameters, precision, IMAGE, proto, opset).reasons
    assert reason in found


def test_what_fits_is_not_refused() -> None:
    board = target({"opset": 20, "batch": 1}, model_bytes=1_000_000, max_batch=1, operators=("Relu",), input_channels=3)
    assert refusal(board, 900_000, "fp32", IMAGE, graph("N", "Relu"), None).reasons == ()
    assert refusal(board, 900_000, "fp32", IMAGE, graph(1, "Relu"), 20).reasons == ()


def test_a_target_without_its_export_says_which_one_is_there() -> None:
    jetson, _ = load_target("jetson-orin")
    runtimes = {"tvm": jetson.runtime["tensorrt"], "onnxruntime": jetson.runtime["onnxruntime"]}
    board = jetson.model_copy(update={"default_runtime": "tvm", "runtime": runtimes})
    assert refusal(board, 1, "fp32", IMAGE, graph("N", "Relu"), None).reasons == (
        "no export for tvm yet (--runtime onnxruntime is there)",
    )


SHAPES = {"mobilenet-v2": (3, 32, 32), "unet": (3, 32, 32), "vit": (3, 32, 32), "gru": (20, 10), "ds-cnn": (1, 49, 10)}


@pytest.mark.parametrize("name", SHAPES)
def test_layers_add_up(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", *SHAPES[name])),))
    total = count_macs(network, signature)
    layers = layers_of(network, signature)
    own = sum(parameter.numel() for parameter in network.parameters(recurse=False))  # of the network itself: tokens
    assert sum(layer.parameters for layer in layers) + own == sum(p.numel() for p in network.parameters())
    assert 0 < sum(layer.macs or 0 for layer in layers) == total
    assert all(layer.shape and layer.shape[0] == "N" for layer in layers if layer.parameters and layer.shape)


@pytest.mark.parametrize(
    ("network", "hint"),
    [
        (nn.Sequential(nn.Conv1d(4, 2, 3)), "--input Nx4xLENGTH"),
        (nn.Conv2d(3, 2, 3), "--input Nx3xHEIGHTxWIDTH"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), "--input Nx7"),
        (nn.GRU(5, 2), "--input NxSTEPSx5"),
        (nn.ReLU(), "--input [NAME:]SHAPE"),
    ],
)
def test_hints(network: nn.Module, hint: str) -> None:
    assert input_hint(network) == hint


def test_an_onnx_file_with_strange_shapes_is_still_shown(tmp_path: Path) -> None:
    proto = graph("N", "Relu")
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(proto, tmp_path / "model.onnx")
    found = inspect_model(tmp_path / "model.onnx", Opening(), [])
    assert found.operators == {"Relu": 1} and found.inputs == () and "only the first axis" in found.notes[0]
