import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekd.stages.quantize.layers import array_of, find_layers


def convolution(groups: int, kernel: int, stride: int, padding: int, dilation: int) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(
        6, 12, (kernel, 1), (stride, 1), (padding, 2), (dilation, 1), groups=groups, padding_mode="zeros"
    ).eval()


def graph_of(module: nn.Conv2d) -> onnx.ModelProto:
    node = helper.make_node(
        "Conv",
        ["x", "w", "b"],
        ["y"],
        "conv",
        group=module.groups,
        strides=list(module.stride),
        dilations=list(module.dilation),
        pads=[*module.padding, *module.padding],  # type: ignore[list-item]
    )
    tensors = [
        numpy_helper.from_array(values.detach().numpy(), name)
        for name, values in (("w", module.weight), ("b", module.bias))
        if values is not None
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    return helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], tensors))


CASES = [(1, 3, 1, 1, 1), (1, 3, 2, 1, 1), (3, 2, 1, 0, 2), (6, 3, 3, 2, 1), (2, 1, 1, 0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_rows_times_inputs_is_what_the_convolution_computes(case: tuple[int, ...]) -> None:
    module = convolution(*case)
    (layer,) = find_layers(graph_of(module))
    values = torch.randn(4, 6, 11, 9)
    wanted = module(values).detach()  # (samples, outputs, height, width)
    x = layer.inputs(values, 10_000, 0).numpy()
    assert x.shape[:2] == (layer.groups, layer.fan_in)
    rows = layer.rows(array_of(graph_of(module), "w"))
    found = np.einsum("goi,gip->gop", rows, x).reshape(12, 4, *wanted.shape[2:]).swapaxes(0, 1)
    np.testing.assert_allclose(found + module.bias.detach().numpy().reshape(1, -1, 1, 1), wanted, atol=1e-5)  # type: ignore[union-attr]
    np.testing.assert_array_equal(layer.weights_of(rows), module.weight.detach().numpy())


@pytest.mark.parametrize("case", CASES)
def test_fewer_positions_are_some_of_them(case: tuple[int, ...]) -> None:
    module = convolution(*case)
    (layer,) = find_layers(graph_of(module))
    values = torch.randn(1, 6, 23, 23)
    every = {tuple(column) for column in layer.inputs(values, 10_000, 0)[0].T.tolist()}
    starts = []
    for offset in range(5):
        some = [tuple(column) for column in layer.inputs(values, 12, 7 * offset)[0].T.tolist()]
        assert 3 <= len(some) <= 60 and set(some) <= every
        starts.append(some[0])
    assert len(set(starts)) > 1


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_is_rows_too(transposed: int) -> None:
    weight = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "gemm", transB=transposed)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    stored = weight if transposed else np.ascontiguousarray(weight.T)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(stored, "w")])
    (layer,) = find_layers(helper.make_model(graph))
    assert (layer.groups, layer.fan_in, layer.axis) == (1, 7, 0 if transposed else 1)
    rows = layer.rows(stored)
    np.testing.assert_array_equal(rows[0], weight)
    np.testing.assert_array_equal(layer.weights_of(rows), stored)
    values = torch.randn(9, 7)
    np.testing.assert_array_equal(layer.inputs(values, 1, 0)[0].T, values)


def test_only_layers_with_plain_weights_of_their_own_are_found() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "shared"], ["a"], "first"),
        helper.make_node("Conv", ["a", "shared"], ["b"], "second"),
        helper.make_node("Conv", ["b", "given"], ["c"], "computed weights"),
        helper.make_node("Conv", ["c", "w"], ["d"], "automatic", auto_pad="SAME_UPPER"),
        helper.make_node("Gemm", ["d", "v", "u"], ["e"], "scaled", alpha=0.5),
        helper.make_node("Gemm", ["e", "k", "f"], ["y"], "shared bias"),
        helper.make_node("Gemm", ["e", "m", "f"], ["z"], "shared bias too"),
    ]
    shapes = {"shared": (4, 4, 1, 1), "w": (4, 4, 3, 3), "v": (4, 4), "u": (4,), "k": (4, 4), "m": (4, 4), "f": (4,)}
    tensors = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in shapes.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "given", "y", "z")]
    found = find_layers(helper.make_model(helper.make_graph(nodes, "g", ends[:2], ends[2:], tensors)))
    assert [layer.node for layer in found] == ["shared bias", "shared bias too"]
    assert all(layer.bias is None for layer in found)
