from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.data import Dataset, Part
from edgekd.evaluate import run_onnx
from edgekd.models.qdq_graph import QdqGraph, exposing
from edgekd.models.signature import Signature, TensorSpec

SHAPES = {"w0": (8, 4, 1, 1), "w1": (4, 8, 1, 1)}
X = np.random.default_rng(1).normal(size=(20, 4, 5, 5)).astype(np.float32)


def floats() -> onnx.ModelProto:
    """Two convolutions with a Relu between them; y = second + x."""
    random = np.random.default_rng(0)
    tensors = [numpy_helper.from_array(random.normal(size=s).astype(np.float32), n) for n, s in SHAPES.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w1"], ["c"], "second"),
        helper.make_node("Add", ["c", "x"], ["y"], "add"),
    ]
    return model(nodes, tensors)


def model(nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4, 5, 5]) for name in "xy"]
    return helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors),
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 20)],
    )


def rounded() -> onnx.ModelProto:
    """The same in Q/DQ form: x and b rounded to steps of 0.1 and 0.5, weights a channel each, y to steps of 0.2."""
    source = floats()
    tensors, weights = [], {}
    for tensor in source.graph.initializer:
        values = numpy_helper.to_array(tensor)
        scale = (np.abs(values).max(axis=(1, 2, 3)) / 7).astype(np.float32)  # 4 bits, so that it shows
        integers = np.round(values / scale.reshape(-1, 1, 1, 1)).astype(np.int8)
        weights[tensor.name] = integers.astype(np.float32) * scale.reshape(-1, 1, 1, 1)
        tensors += [
            numpy_helper.from_array(integers, f"{tensor.name}_q"),
            numpy_helper.from_array(scale, f"{tensor.name}_s"),
            numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{tensor.name}_z"),
        ]
    for name, step in {"x": 0.1, "b": 0.5, "y": 0.2}.items():
        tensors += [
            numpy_helper.from_array(np.float32(step), f"{name}_s"),
            numpy_helper.from_array(np.uint8(128 if name != "b" else 0), f"{name}_z"),
        ]

    def pair(name: str, made: str) -> list[onnx.NodeProto]:
        ends = [f"{name}_s", f"{name}_z"]
        return [
            helper.make_node("QuantizeLinear", [name, *ends], [f"{made}_i"]),
            helper.make_node("DequantizeLinear", [f"{made}_i", *ends], [made]),
        ]

    def weight(name: str) -> onnx.NodeProto:
        return helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_r"], axis=0)

    nodes = [
        *pair("x", "x_r"), weight("w0"), helper.make_node("Conv", ["x_r", "w0_r"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"), *pair("b", "b_r"), weight("w1"),
        helper.make_node("Conv", ["b_r", "w1_r"], ["c"], "second"),
        helper.make_node("Add", ["c", "x_r"], ["sum"], "add"),
    ]  # fmt: skip
    last = pair("y", "out")
    last[0].input[0], last[1].output[0] = "sum", "y"
    tensors = [one for one in tensors if one.name != "y"]
    return model([*nodes, *last], tensors)


@pytest.fixture
def part() -> Part:
    specs = [TensorSpec(name=name, shape=("batch", 4, 5, 5)) for name in "xy"]
    signature = Signature(inputs=(specs[0],), outputs=(specs[1],))
    return Part(Dataset(inputs={"x": X}, origin="random"), np.arange(20), signature)


def outputs(made: onnx.ModelProto, part: Part, folder: Path) -> dict[str, np.ndarray]:
    onnx.checker.check_model(made)
    onnx.save(made, str(folder / "m.onnx"))
    return run_onnx(folder / "m.onnx", part, 1)


def by_hand(*, x: bool = False, w0: bool = False, b: bool = False, w1: bool = False, add: bool = False) -> np.ndarray:
    """The network in numpy, with these roundings: x for the first convolution, `add` for x in the sum."""
    source = {t.name: numpy_helper.to_array(t)[:, :, 0, 0] for t in floats().graph.initializer}
    four = {name: np.round(v / (s := np.abs(v).max(1, keepdims=True) / 7)) * s for name, v in source.items()}
    steps = lambda v, s, z: (np.clip(np.round(v / s) + z, 0, 255) - z) * s  # noqa: E731
    x_r = steps(X, np.float32(0.1), 128)
    a = np.einsum("oi,nihw->nohw", four["w0"] if w0 else source["w0"], x_r if x else X)
    hidden = np.maximum(a, 0)
    hidden = steps(hidden, np.float32(0.5), 0) if b else hidden
    c = np.einsum("oi,nihw->nohw", four["w1"] if w1 else source["w1"], hidden)
    return c + (x_r if add else X)


def test_nothing_rounded_is_the_float_network(part: Part, tmp_path: Path) -> None:
    graph = QdqGraph(rounded(), floats())
    assert [layer.name for layer in graph.layers] == ["first", "second", "add"] and not graph.unmatched
    found = outputs(graph.rounding(()), part, tmp_path)["y"]
    np.testing.assert_allclose(found, outputs(floats(), part, tmp_path)["y"], rtol=1e-5, atol=1e-5)


def without_relu(left: str = "a", step: float = 0.5) -> onnx.ModelProto:
    """The rounded graph as a quantizer leaves it that takes a zero point of 0 for the Relu; one of its tensors is left."""
    graph = rounded()
    (relu,) = [node for node in graph.graph.node if node.op_type == "Relu"]
    graph.graph.node.remove(relu)
    for node in graph.graph.node:
        node.input[:] = [left if name in "ab" else name for name in node.input]
        node.output[:] = [left if name == "a" else name for name in node.output]
    (scale,) = [tensor for tensor in graph.graph.initializer if tensor.name == "b_s"]
    scale.CopyFrom(numpy_helper.from_array(np.float32(step), "b_s"))
    return graph


@pytest.mark.parametrize(("left", "step"), [("a", 0.5), ("b", 0.5), ("b", 0.001)])  # the last one clips most values
def test_an_activation_that_the_rounding_took_over_comes_back(
    part: Part, tmp_path: Path, left: str, step: float
) -> None:
    given = without_relu(left, step)
    graph = QdqGraph(given, floats())
    wanted = outputs(floats(), part, tmp_path)["y"]
    np.testing.assert_allclose(outputs(graph.rounding(()), part, tmp_path)["y"], wanted, rtol=1e-5, atol=1e-5)
    everything = outputs(graph.rounding([layer.name for layer in graph.layers]), part, tmp_path)["y"]
    np.testing.assert_array_equal(everything, outputs(given, part, tmp_path)["y"])


def test_alone_the_span_of_the_rounding_takes_its_place(part: Part, tmp_path: Path) -> None:
    found = outputs(QdqGraph(without_relu()).rounding(()), part, tmp_path)["y"]
    np.testing.assert_allclose(found, by_hand(w0=True, w1=True), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "roundings"), [("first", ("x", "w0")), ("second", ("b", "w1"))])
def test_one_layer_reads_rounded_values_and_no_other(
    part: Part, tmp_path: Path, name: str, roundings: tuple[str, ...]
) -> None:
    found = outputs(QdqGraph(rounded(), floats()).rounding({name}), part, tmp_path)["y"]
    wanted = by_hand(**dict.fromkeys(roundings, True))
    # a value on the edge between two steps may fall to either side
    assert (np.abs(found - wanted) > 1e-4).mean() < 0.01
    assert np.abs(wanted - by_hand()).max() > 0.05


def test_an_output_is_rounded_with_the_layer_that_makes_it(part: Part, tmp_path: Path) -> None:
    found = outputs(QdqGraph(rounded(), floats()).rounding({"add"}), part, tmp_path)["y"]
    np.testing.assert_allclose(found / 0.2, np.round(found / 0.2), atol=1e-3)
    assert np.abs(found - by_hand(add=True)).max() <= 0.1001


def test_everything_rounded_is_the_file(part: Part, tmp_path: Path) -> None:
    graph = QdqGraph(rounded(), floats())
    found = outputs(graph.rounding([layer.name for layer in graph.layers]), part, tmp_path)["y"]
    np.testing.assert_array_equal(found, outputs(rounded(), part, tmp_path)["y"])


def test_without_a_reference_weights_stay_rounded(part: Part, tmp_path: Path) -> None:
    graph = QdqGraph(rounded())
    found = outputs(graph.rounding(()), part, tmp_path)["y"]
    np.testing.assert_allclose(found, by_hand(w0=True, w1=True), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(graph.layers[0].weight, graph.layers[0].rounded_weight)


def test_weights_of_another_network_are_not_taken(part: Part) -> None:
    other = floats()
    for tensor in other.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    assert QdqGraph(rounded(), other).unmatched == ["first", "second"]


def test_inputs_say_their_span_and_weights_their_channels() -> None:
    first, second, add = QdqGraph(rounded(), floats()).layers
    assert first.activation is not None and first.activation.tensor == "x"
    assert first.activation.span() == pytest.approx((-12.8, 12.7))
    assert second.activation is not None and second.activation.span() == pytest.approx((0, 127.5))
    assert [one.scale.size for one in first.inputs] == [1, 8] and add.weight is None


def test_further_outputs_can_be_seen(part: Part, tmp_path: Path) -> None:
    onnx.save(exposing(floats(), ["b", "y"]), str(tmp_path / "m.onnx"))
    found = run_onnx(tmp_path / "m.onnx", part, 1)
    assert set(found) == {"y", "b"} and found["b"].min() == 0
