"""What a graph tells: its signature whatever its names, and what is counted or is not known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgekd.errors import InputError
from edgekd.models.onnx_graph import count_macs, fixed_batch, graph_signature, node_macs


def graph(
    nodes: Sequence[NodeProto],
    weights: dict[str, tuple[int, ...]],
    *,
    listed: bool = False,
    name: str = "x",
    shape: Sequence[int | str] | None = ("N", 3, 8, 8),
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Return a graph with one input and the last node's output; `listed` weights are inputs too, and come first."""
    tensors = [numpy_helper.from_array(np.ones(sizes, np.float32), key) for key, sizes in weights.items()]
    inputs = [helper.make_tensor_value_info(key, TensorProto.FLOAT, sizes) for key, sizes in weights.items() if listed]
    made = helper.make_graph(
        nodes,
        "g",
        [*inputs, helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ["N", *([None] * 3)])],
        tensors,
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=imports, ir_version=10)


def conv(source: str = "x", weight: str = "w") -> NodeProto:
    return helper.make_node("Conv", [source, weight], [f"{source}c"])


def counted(model: onnx.ModelProto, folder: Path) -> int | None:
    onnx.save(model, str(folder / "model.onnx"))
    return count_macs(folder / "model.onnx")


@pytest.mark.parametrize("listed", [False, True])
def test_weights_listed_as_inputs_change_no_count(listed: bool, tmp_path: Path) -> None:
    model = graph([conv()], {"w": (4, 3, 3, 3)}, listed=listed)
    assert counted(model, tmp_path) == 6 * 6 * 4 * 27
    assert fixed_batch(model) is None


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft"), conv("y")],
        [helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft"), helper.make_node("MatMul", ["y", "w"], ["z"])],
        [helper.make_node("FusedConv", ["x", "w"], ["y"], domain="com.microsoft")],
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
    ],
)  # fmt: skip
def test_what_is_not_known_is_not_counted(nodes: list[NodeProto], tmp_path: Path) -> None:
    model = graph(nodes, {"w": (4, 3, 3, 3)})
    assert counted(model, tmp_path) is None
    assert [macs for _, macs in node_macs(model)][-1] is None


def test_an_operator_that_does_not_multiply_hides_nothing(tmp_path: Path) -> None:
    after = helper.make_node("FastGelu", ["xc"], ["y"], domain="com.microsoft")
    assert counted(graph([conv(), after], {"w": (4, 3, 3, 3)}), tmp_path) == 6 * 6 * 4 * 27


@pytest.mark.parametrize("operator", ["Gemm", "MatMul"])
def test_an_activation_of_unknown_width_is_counted_by_the_weight(operator: str) -> None:
    nodes = [helper.make_node("Reshape", ["x", "sizes"], ["flat"]), helper.make_node(operator, ["flat", "w"], ["y"])]
    model = graph(nodes, {"w": (192, 10)})
    sizes = helper.make_node("Cast", ["sizes_f"], ["sizes"], to=TensorProto.INT64)  # so that inference cannot read them
    model.graph.node.insert(0, sizes)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 192], np.float32), "sizes_f"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10]))
    assert [macs for _, macs in node_macs(model)][-1] == 1920


@pytest.mark.parametrize("name", ["input.1", "x:0", "serving/x:0", "0", "log-probs", "größe 1"])
def test_a_name_is_any_printable_text(name: str) -> None:
    model = graph([helper.make_node("Relu", [name], ["495"])], {}, name=name)
    for value in model.graph.output:
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["N", 3, 8, 8]))
    found = graph_signature(model)
    assert (found.inputs[0].name, found.outputs[0].name) == (name, "495")


def test_what_cannot_be_an_input_says_why() -> None:
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    with pytest.raises(InputError, match="'x' is double; inputs and outputs of float32,"):
        graph_signature(graph(relu, {}, kind=TensorProto.DOUBLE))
    with pytest.raises(InputError, match="only the first axis"):
        graph_signature(graph(relu, {}, shape=("N", "M")))
    with pytest.raises(InputError, match="printable"):
        graph_signature(graph([helper.make_node("Relu", ["a\x1b[2J"], ["y"])], {}, name="a\x1b[2J"))


@pytest.mark.parametrize("shape", [(), None])
def test_an_input_without_axes_has_no_batch(shape: tuple[int, ...] | None) -> None:
    assert fixed_batch(graph([helper.make_node("Relu", ["x"], ["y"])], {}, shape=shape)) is None
