from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.device.runtimes import open_session
from edgekd.stages.quantize.equalization import equalize


def network(activation: str) -> onnx.ModelProto:
    """Convolution, depthwise convolution, convolution, with channels of very different size between them."""
    random = np.random.default_rng(0)
    spread = np.geomspace(0.01, 10, 8).astype(np.float32)
    weights = {
        "w1": random.normal(size=(8, 3, 3, 3)) * spread[:, None, None, None],
        "b1": random.normal(size=8) * spread,
        "w2": random.normal(size=(8, 1, 3, 3)),
        "w3": random.normal(size=(4, 8, 1, 1)),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    more = ["low", "high"] if activation == "Clip" else []
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], "first", pads=[1] * 4),
        helper.make_node(activation, ["a", *more], ["r"], "act1"),
        helper.make_node("Conv", ["r", "w2"], ["d"], "depthwise", group=8, pads=[1] * 4),
        helper.make_node(activation, ["d", *more], ["s"], "act2"),
        helper.make_node("Conv", ["s", "w3"], ["y"], "last"),
    ]
    tensors = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, 8, 8]) for name, size in (("x", 3), ("y", 4))
    ]
    return helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors),
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 20)],
    )


def ranges(model: onnx.ModelProto, name: str, axes: tuple[int, ...]) -> np.ndarray:
    weight = next(numpy_helper.to_array(one) for one in model.graph.initializer if one.name == name)
    return np.abs(weight).max(axes)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_the_network_computes_what_it_did_and_ranges_are_equal(activation: str, tmp_path: Path) -> None:
    model = network(activation)
    found = equalize(model)
    equalized = found.graph
    assert found.pairs == 2
    x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    outputs = []
    for number, one in enumerate((model, equalized)):
        onnx.save(one, str(tmp_path / f"{number}.onnx"))
        outputs.append(open_session("onnxruntime", tmp_path / f"{number}.onnx", 1).run({"x": x})["y"])
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-5 * np.abs(outputs[0]).max())
    made, taken = ranges(equalized, "w1", (1, 2, 3)), ranges(equalized, "w2", (1, 2, 3))
    np.testing.assert_allclose(made, taken, rtol=0.02)
    before = ranges(model, "w1", (1, 2, 3))
    assert made.max() / made.min() < 0.2 * before.max() / before.min()


def test_a_channel_far_larger_than_the_others_shows_in_the_spread() -> None:
    model = network("Relu")
    even = equalize(model).graph
    assert equalize(even).spread == pytest.approx(1, abs=0.05)
    weights = {tensor.name: tensor for tensor in even.graph.initializer}
    for name, factor in (("w1", 30.0), ("b1", 30.0), ("w2", 1 / 30)):  # one channel, the same function
        values = numpy_helper.to_array(weights[name]).copy()
        values[3] *= factor
        weights[name].CopyFrom(numpy_helper.from_array(values, name))
    assert equalize(even).spread == pytest.approx(30, rel=0.1)


def test_a_clipping_activation_is_left_alone() -> None:
    model = network("Clip")
    found = equalize(model)
    assert found.pairs == 0 and found.graph == model and found.spread == 1


def test_what_others_read_too_is_left_alone() -> None:
    model = network("Relu")
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 8, 8, 8]))
    assert equalize(model).pairs == 1
