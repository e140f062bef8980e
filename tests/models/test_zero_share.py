"""Zeros are counted in what a layer multiplies with, whatever the file makes it of."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekd.models.zero_share import constant_values, zero_share
from tests.models.test_onnx_graph import graph


def with_weight(weight: np.ndarray, *more: tuple[str, np.ndarray], axis: int = 0) -> onnx.ModelProto:
    """Return a Gemm and its weight; with `more` (scale, zero point) the weight is rounded."""
    made = graph([helper.make_node("Gemm", ["x", "float" if more else "w", "b"], ["y"], transB=1)], {}, shape=("N", 4))
    if more:
        node = helper.make_node("DequantizeLinear", ["w", *(name for name, _ in more)], ["float"], axis=axis)
        made.graph.node.insert(0, node)
    tensors = {"w": weight, "b": np.zeros(len(weight), np.float32), **dict(more)}
    made.graph.initializer.extend(numpy_helper.from_array(tensor, name) for name, tensor in tensors.items())
    return made


LEVELS = np.array([[0, 3, 3, 1], [2, 0, 0, 2]], np.int8)


@pytest.mark.parametrize(
    ("points", "axis", "share"),
    [
        (None, 0, 3 / 8),
        (np.array(3, np.int8), 0, 2 / 8),
        (np.array([3, 2], np.int8), 0, 4 / 8),
        (np.array([2, 0, 3, 1], np.int8), 1, 4 / 8),
    ],
    ids=["no zero point", "one", "of outputs", "of inputs"],
)
def test_the_level_that_stands_for_zero_is_counted(points: np.ndarray | None, axis: int, share: float) -> None:
    more = [("scale", np.ones(1 if points is None else points.shape, np.float32))]
    more += [] if points is None else [("points", points)]
    assert zero_share(with_weight(LEVELS, *more, axis=axis)) == share


def test_zeros_of_float_weights_are_counted_and_those_of_biases_are_not() -> None:
    assert zero_share(with_weight(LEVELS.astype(np.float32))) == 3 / 8


def test_packed_or_missing_weights_have_no_zeros_to_count() -> None:
    assert zero_share(with_weight(LEVELS.astype(np.uint8))) is None
    assert zero_share(graph([helper.make_node("Relu", ["x"], ["y"])], {})) is None


def test_zeros_of_recurrent_weights_are_counted_where_torch_joins_them_anew() -> None:
    nodes = [
        helper.make_node("Concat", ["w", "w"], ["joined"], axis=0),
        helper.make_node("Unsqueeze", ["joined", "axes"], ["one"]),
        helper.make_node("GRU", ["x", "one", "r", "b"], ["y"], hidden_size=1),
    ]
    made = graph(nodes, {"w": (3, 4), "r": (1, 3, 4), "b": (1, 6)})
    made.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axes"))
    for tensor in made.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((3, 4), np.float32), "w"))
    assert zero_share(made) == pytest.approx(24 / 36)  # of what the layer multiplies with; the bias is no weight


def test_packed_levels_are_counted_after_they_are_unpacked_beside_a_layer_in_float() -> None:
    nodes = [
        helper.make_node("BitShift", ["packed", "shifts"], ["shifted"], direction="RIGHT"),
        helper.make_node("BitwiseAnd", ["shifted", "mask"], ["masked"]),
        helper.make_node("Cast", ["masked"], ["levels"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", ["levels", "offset"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["inner"]),
        helper.make_node("MatMul", ["inner", "dense"], ["y"]),
    ]
    made = graph(nodes, {"dense": (4, 4)}, shape=("N", 2))
    constants = {  # two levels of four bits a byte: (3, 8), (8, 1), ...
        "packed": np.array([[0x83, 0x18, 0x88, 0x79]], np.uint8),
        "shifts": np.array([[0], [4]], np.uint8),
        "mask": np.array(15, np.uint8),
        "offset": np.array(8, np.float32),
    }
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    assert zero_share(made) == pytest.approx(4 / 24)


def test_what_an_input_reaches_is_not_constant() -> None:
    nodes = [
        helper.make_node("Neg", ["w"], ["a"]),
        helper.make_node("Add", ["a", "x"], ["b"]),
        helper.make_node("Relu", ["a"], ["c"], domain="com.microsoft"),
    ]
    (found,) = constant_values(graph(nodes, {"w": (3, 8, 8)}), ["x", "a", "b", "c", "", "missing"])
    assert np.array_equal(found, -np.ones((3, 8, 8)))
