from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.data import Dataset, Part
from edgekd.models.signature import Signature, TensorSpec
from edgekd.stages.quantize import QuantizeSettings
from edgekd.stages.quantize.sensitivity import Sensitivity, measure_sensitivity
from edgekd.stages.quantize.stage import sensitive_layers

CHAIN = [
    helper.make_node("Conv", ["x", "w0"], ["a"], "first"),
    helper.make_node("Relu", ["a"], ["b"], "relu"),
    helper.make_node("Conv", ["b", "w1"], ["c"], "second"),
    helper.make_node("Conv", ["c", "w2"], ["d"], "third"),
    helper.make_node("Add", ["d", "d"], ["y"], "add"),
]


def network() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    shapes = {"w0": (8, 4, 1, 1), "w1": (2, 8, 1, 1), "w2": (4, 2, 1, 1)}  # 32, 16 and 8 MACs a pixel
    tensors = [numpy_helper.from_array(random.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4, 5, 5]) for name in "xy"]
    return helper.make_model(
        helper.make_graph(CHAIN, "g", ends[:1], ends[1:], tensors),
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 20)],
    )


def rounded(steps: dict[str, float]) -> onnx.ModelProto:
    """A graph that rounds these tensors with these steps, to levels around 0."""
    nodes, tensors = [], []
    for name, step in steps.items():
        tensors += [
            numpy_helper.from_array(np.float32(step), f"{name}_scale"),
            numpy_helper.from_array(np.uint8(128), f"{name}_zero"),
        ]
        nodes.append(helper.make_node("QuantizeLinear", [name, f"{name}_scale", f"{name}_zero"], [f"{name}_q"]))
    return helper.make_model(helper.make_graph(nodes, "g", [], [], tensors))


@pytest.fixture
def part() -> Part:
    x = np.random.default_rng(1).normal(size=(20, 4, 5, 5)).astype(np.float32)
    specs = [TensorSpec(name=name, shape=("batch", 4, 5, 5)) for name in "xy"]
    return Part(Dataset(inputs={"x": x}, origin="random"), np.arange(20), Signature(inputs=(specs[0],), outputs=(specs[1],)))  # fmt: skip


def test_the_coarsest_activation_makes_most_of_the_noise(part: Part, tmp_path: Path) -> None:
    found = measure_sensitivity(network(), rounded({"b": 1.5, "c": 0.2, "d": 0.2}), part, tmp_path, 1)
    assert [one.tensor for one in found] == ["b", "c"]  # d goes into an Add
    assert found[0].noise > 0.8 and sum(one.noise for one in found) < 1
    assert found[0].nodes == pytest.approx({"first": 32 / 56, "second": 16 / 56})
    assert found[1].nodes == pytest.approx({"second": 16 / 56, "third": 8 / 56})
    assert not list(tmp_path.iterdir())


def test_the_input_is_an_activation_too(part: Part, tmp_path: Path) -> None:
    (found,) = measure_sensitivity(network(), rounded({"x": 0.1}), part, tmp_path, 1)
    assert found.tensor == "x" and found.noise == 1.0 and set(found.nodes) == {"first"}


def test_outputs_of_any_size_and_kind_weigh_the_same(part: Part, tmp_path: Path) -> None:
    alone = measure_sensitivity(network(), rounded({"b": 1.5, "c": 0.2}), part, tmp_path, 1)
    model = network()
    more = [
        helper.make_node("ArgMax", ["y"], ["class"], "argmax", axis=1),
        helper.make_node("Greater", ["y", "zero"], ["sign"], "greater"),
        helper.make_node("Mul", ["y", "many"], ["large"], "mul"),
    ]
    model.graph.node.extend(more)
    for name, value in (("zero", 0.0), ("many", 1e6)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    for name, kind in (("class", TensorProto.INT64), ("sign", TensorProto.BOOL), ("large", TensorProto.FLOAT)):
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    found = measure_sensitivity(model, rounded({"b": 1.5, "c": 0.2}), part, tmp_path, 1)
    assert [one.noise for one in found] == pytest.approx([one.noise for one in alone], rel=1e-3)


def layers(*measured: Sensitivity, **settings: float) -> list[str]:
    return sensitive_layers(measured, (), QuantizeSettings(**settings), lambda _: None)  # type: ignore[arg-type]


def test_noisy_activations_stay_in_float_as_long_as_it_is_cheap() -> None:
    first = Sensitivity("a", 0.5, {"one": 0.02, "two": 0.02})
    next_one = Sensitivity("b", 0.3, {"two": 0.02, "three": 0.005})
    quiet = Sensitivity("c", 0.1, {"four": 0.0})
    assert layers(first, next_one, quiet) == ["one", "two", "three"]
    assert layers(first, next_one, quiet, float_noise=0.4) == ["one", "two"]
    assert layers(first, next_one, quiet, float_share=0.03) == ["two", "three"]  # the first one is too dear
    assert layers(first, next_one, quiet, float_share=0.0) == []


def test_what_stays_in_float_anyway_costs_nothing() -> None:
    measured = [Sensitivity("a", 0.5, {"kept": 0.9, "cheap": 0.01})]
    assert sensitive_layers(measured, ("kept",), QuantizeSettings(), lambda _: None) == ["cheap"]
