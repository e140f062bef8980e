"""The kernels of a graph against layers counted by hand."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.signature import Signature, TensorSpec
from edgekd.predict.features import Kernel, kernels_of
from edgekd.stages.export.onnx_writer import write_onnx


class Block(nn.Module):
    """A strided convolution with norm and SiLU, a depthwise and a pointwise one with a residual, pooling, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 5, padding=2, groups=16), nn.ReLU())
        self.pointwise = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        stem = self.stem(image)
        features = torch.relu(self.pointwise(self.depthwise(stem)) + stem)
        return self.head(features.mean((2, 3)))


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[Kernel]:
    path = tmp_path_factory.mktemp("block") / "block.onnx"
    inputs = (TensorSpec(name="image", shape=("batch", 3, 32, 32)),)
    outputs = (TensorSpec(name="output", shape=("batch", 10)),)
    write_onnx(Block().eval(), Signature(inputs=inputs, outputs=outputs), path)
    return kernels_of(onnx.load(str(path)))


def test_layers_become_the_kernels_that_a_runtime_fuses(kernels: list[Kernel]) -> None:
    assert [one.operator for one in kernels] == ["conv", "depthwise", "pointwise", "pool", "dense"]


def test_work_is_what_one_counts_by_hand(kernels: list[Kernel]) -> None:
    places = 16 * 16
    conv, depthwise, pointwise, pool, dense = kernels
    assert [one.macs for one in kernels] == [places * 16 * 27, places * 16 * 25, places * 16 * 16, 0, 160]
    assert (conv.reads, conv.writes, conv.stride, conv.window) == (3 * 32 * 32, places * 16, 2, 9)
    assert conv.exponentials == places * 16  # of the SiLU
    assert (depthwise.groups, depthwise.operations) == (16, places * 16)  # its ReLU
    assert pointwise.reads == 2 * places * 16  # its own input and the residual
    assert pool.operations == places * 16
    assert dense.bytes == 4 * (16 + 160 + 10 + 10)


def test_a_float_file_stands_for_a_narrower_one(kernels: list[Kernel]) -> None:
    (conv, *_) = kernels
    assert conv.stored_as("int8").bytes * 4 == conv.stored_as("fp32").bytes
    assert conv.stored_as("fp16").macs == conv.macs


def quantized(*, rounded_output: bool) -> onnx.ModelProto:
    """A 1x1 convolution on rounded values whose output is rounded again, or is the graph's float output."""
    constants = {
        "w": np.ones((8, 4, 1, 1), np.int8),
        "s": np.float32(0.1),
        "z": np.uint8(0),
        "wz": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], "q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], "dq"),
        helper.make_node("DequantizeLinear", ["w", "s", "wz"], ["wd"], "wdq"),
        helper.make_node("Conv", ["xd", "wd"], ["c"], "conv"),
    ]
    if rounded_output:
        nodes += [
            helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"], "cq"),
            helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"], "cdq"),
        ]
    else:
        nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, 6, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])


def test_a_rounded_layer_moves_bytes_and_rounds_by_itself() -> None:
    rounding, conv, floats = kernels_of(quantized(rounded_output=True))
    assert (rounding.operator, conv.width, floats.operator) == ("convert", "int8", "convert")
    assert conv.bytes == 4 * 36 + 8 * 4 + 8 * 36
    assert floats.bytes == 8 * 36 * (1 + 4)


def test_a_layer_whose_output_stays_float_needs_floats() -> None:
    found = kernels_of(quantized(rounded_output=False))
    assert [(one.operator, one.width) for one in found] == [
        ("convert", "fp32"),
        ("pointwise", "fp32"),
        ("convert", "fp32"),
    ]


def test_a_free_size_is_refused() -> None:
    model = quantized(rounded_output=True)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(InputError, match="only the first axis"):
        kernels_of(model)
