from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.models.tensorrt_form import faults

Constants = dict[str, np.ndarray]
CHANNELS = 4


def layer(
    changes: Constants | None = None, *, weight_axis: int = 0, bias: str = "b", opset: int = 18
) -> onnx.ModelProto:
    """A convolution in TensorRT's form, with other constants where they are given."""
    random = np.random.default_rng(0)
    constants: Constants = {
        "s": np.float32(0.1),
        "z": np.zeros((), np.int8),
        "w": random.integers(-127, 128, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8),
        "ws": np.full(CHANNELS, 0.01, np.float32),
        "wz": np.zeros(CHANNELS, np.int8),
        "b": np.zeros(CHANNELS, np.float32),
        **(changes or {}),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize", axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantize", axis=1),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], "weight", axis=weight_axis),
        helper.make_node("Conv", ["d", "wd", bias], ["y"], "conv", pads=[1] * 4),
    ]
    if "bi" in constants:
        nodes.insert(0, helper.make_node("DequantizeLinear", ["bi", "bs"], ["bd"], "bias", axis=0))
    return graph_of(nodes, constants, opset)


def graph_of(nodes: list[onnx.NodeProto], constants: Constants, opset: int = 18) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, 8, 8]) for name in "xy"]
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])
    onnx.checker.check_model(model)
    return model


INT32_BIAS = {"bi": np.zeros(CHANNELS, np.int32), "bs": np.full(CHANNELS, 1e-3, np.float32)}
BROKEN = {
    "a zero point": (layer({"z": np.int8(3)}), "refused", "zero point 3"),
    "a bias in int32": (layer(INT32_BIAS, bias="bd"), "refused", "biases stay in float"),
    "scales along another axis": (layer(weight_axis=1), "float", "wants axis 0"),
    "an activation with a scale a channel": (
        layer({"s": np.full(CHANNELS, 0.1, np.float32), "z": np.zeros(CHANNELS, np.int8)}), "float", "scale a channel",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_named_with_what_comes_of_it(name: str) -> None:
    model, effect, message = BROKEN[name]
    found = faults(model)
    assert [one.effect for one in found if message in str(one)][:1] == [effect], found


def test_the_form_itself_has_no_faults() -> None:
    assert faults(layer()) == []
    assert faults(layer({"ws": np.float32(0.01), "wz": np.int8(0)})) == []


def test_unsigned_activations_are_refused() -> None:
    found = faults(layer({"z": np.uint8(0)}))
    assert {one.effect for one in found} == {"refused"} and "uint8" in str(found[0])


def test_an_old_opset_and_foreign_operators_are_refused() -> None:
    node = helper.make_node("QGemm", ["x"], ["y"], "q", domain="com.microsoft")
    integer = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"], "d")
    for nodes, message in (([node], "com.microsoft"), ([integer], "no integer operators")):
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
        model = helper.make_model(
            helper.make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 12)]
        )
        found = faults(model)
        assert "opset 12" in str(found[0]) and message in str(found[1])
        assert {one.effect for one in found} == {"refused"}


def test_a_layer_with_a_float_weight_runs_in_float() -> None:
    model = layer()
    conv = model.graph.node[-1]
    model.graph.initializer.append(numpy_helper.from_array(np.ones((CHANNELS, CHANNELS, 3, 3), np.float32), "float"))
    conv.input[1] = "float"
    (found,) = faults(model)
    assert found.effect == "float" and "its weight is not rounded" in found.message


def test_an_addition_wants_its_residual_input_rounded_alone() -> None:
    def with_add(residual: str) -> list[str]:
        model = layer()
        model.graph.node[-1].output[0] = "c"
        model.graph.node.append(helper.make_node("Add", ["c", residual], ["y"], "add"))
        return [one.effect for one in faults(model)]

    assert with_add("d") == [] and with_add("x") == ["slower"]


@pytest.mark.parametrize("name", ["good", *BROKEN])
def test_nvidia_s_own_parser_says_the_same(name: str, tmp_path: Path) -> None:
    trt = pytest.importorskip(
        "tensorrt_rtx", reason='pip install "edgekd[tensorrt]" checks the rules with the real parser'
    )
    model = layer() if name == "good" else BROKEN[name][0]
    onnx.save(model, str(tmp_path / "m.onnx"))
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parsed = trt.OnnxParser(network, logger).parse_from_file(str(tmp_path / "m.onnx"))
    assert parsed is not any(one.effect == "refused" for one in faults(model))
