from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.data import Dataset, Part
from edgekd.evaluate import Outputs
from edgekd.models.signature import Signature, TensorSpec
from edgekd.stages.quantize.accuracy_search import Found, search

STEPS = (0.01, 1.0, 0.02, 0.5, 0.01)  # of what each of five layers reads
X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)


def chain(steps: tuple[float, ...] = ()) -> onnx.ModelProto:
    """Five layers that each turn four values; what each reads is rounded with its step."""
    random = np.random.default_rng(1)
    nodes, tensors, name = [], [], "x"
    for number in range(5):
        turn, _ = np.linalg.qr(random.normal(size=(4, 4)))
        tensors.append(numpy_helper.from_array(turn.astype(np.float32), f"w{number}"))
        if steps:
            ends = [f"s{number}", f"z{number}"]
            tensors += [
                numpy_helper.from_array(np.float32(steps[number]), ends[0]),
                numpy_helper.from_array(np.int16(0), ends[1]),
            ]
            nodes += [
                helper.make_node("QuantizeLinear", [name, *ends], [f"i{number}"]),
                helper.make_node("DequantizeLinear", [f"i{number}", *ends], [f"r{number}"]),
            ]
        made = "y" if number == 4 else f"t{number}"
        nodes.append(
            helper.make_node("MatMul", [f"r{number}" if steps else name, f"w{number}"], [made], f"layer{number}")
        )
        name = made
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["batch", 4]) for end in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def exact() -> np.ndarray:
    found = X
    for tensor in chain().graph.initializer:
        found = found @ numpy_helper.to_array(tensor)
    return found


def error(outputs: Outputs) -> float:
    return float(np.abs(outputs["y"] - exact()).max())


@pytest.fixture
def found(tmp_path: Path) -> Callable[[float], Found]:
    specs = [TensorSpec(name=name, shape=("batch", 4)) for name in "xy"]
    part = Part(Dataset(inputs={"x": X}, origin="x"), np.arange(64), Signature(inputs=(specs[0],), outputs=(specs[1],)))
    said: list[str] = []
    return lambda most: search(chain(STEPS), chain(), part, error, most, tmp_path, 1, said.append)


def test_the_noisiest_layers_go_to_float_and_no_others(found: Callable[[float], Found]) -> None:
    assert found(0.6) == Found(("layer1",), pytest.approx(found(0.6).drop), True)
    assert found(0.1).layers == ("layer1", "layer3")
    assert found(5.0).layers == ()


def test_all_layers_in_float_are_the_float_network(found: Callable[[float], Found], tmp_path: Path) -> None:
    all_of_them = found(1e-5)
    assert len(all_of_them.layers) == 5 and all_of_them.holds and all_of_them.drop < 1e-5
    assert not list(tmp_path.iterdir())


def test_where_every_layer_alone_is_too_much_none_is_tried_again(tmp_path: Path) -> None:
    specs = [TensorSpec(name=name, shape=("batch", 4)) for name in "xy"]
    part = Part(Dataset(inputs={"x": X}, origin="x"), np.arange(64), Signature(inputs=(specs[0],), outputs=(specs[1],)))
    said: list[str] = []
    assert len(search(chain(STEPS), chain(), part, error, 1e-5, tmp_path, 1, said.append).layers) == 5
    assert [line.split()[1] for line in said] == ["0", "2", "3", "4", "5"]  # in float


def test_what_no_layer_can_hold_gives_the_best_that_was_seen(found: Callable[[float], Found]) -> None:
    best = found(-1.0)
    assert not best.holds and best.drop < 1e-5


def test_a_layer_that_is_not_needed_goes_back(tmp_path: Path) -> None:
    """The metric minds layer 3 alone, which is not the noisiest."""
    specs = [TensorSpec(name=name, shape=("batch", 4)) for name in "xy"]
    part = Part(Dataset(inputs={"x": X}, origin="x"), np.arange(64), Signature(inputs=(specs[0],), outputs=(specs[1],)))

    def drop(outputs: Outputs) -> float:
        """Read the graph that was just run: is layer 3 rounded?"""
        model = onnx.load(str(tmp_path / "search.onnx"))
        node = next(one for one in model.graph.node if one.name == "layer3")
        return 1.0 if node.input[0].startswith("r") else 0.0

    assert search(chain(STEPS), chain(), part, drop, 0.5, tmp_path, 1, lambda line: None).layers == ("layer3",)
