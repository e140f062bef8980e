from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgekd.errors import InputError
from edgekd.evaluate import run_onnx
from edgekd.metrics import signal_to_noise
from edgekd.models.precision import precision_of
from edgekd.stages.quantize.dynamic import DynamicSettings
from tests.exact import run_part_exactly
from tests.stages.quantize.other_precisions import Begun, after, file_of, graph_of, gru, vit


@pytest.fixture(scope="module")
def transformer() -> Begun:
    return vit()


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def test_linear_layers_of_a_transformer(transformer: Begun, tmp_path: Path) -> None:
    made = after(transformer, DynamicSettings(), tmp_path)
    part, path = transformer[1].parts.validation, file_of(made)
    reference, outputs = run_onnx(tmp_path / "float.onnx", part, 1), run_part_exactly(path, part)
    assert all(signal_to_noise(outputs[name], reference[name]) > 25 for name in reference)
    assert operators(path)["MatMulInteger"] == made.notes["nodes"] == 13
    assert made.form.precision == precision_of(onnx.load(str(path))) == "int8-dynamic"
    assert path.stat().st_size < 0.5 * (tmp_path / "float.onnx").stat().st_size


def test_only_the_operators_and_nodes_asked_for(transformer: Begun, tmp_path: Path) -> None:
    made = after(transformer, DynamicSettings(operators=("Gemm",)), tmp_path / "a")
    assert made.notes["nodes"] == 1
    made = after(transformer, DynamicSettings(keep_float=("Gemm",)), tmp_path / "b")
    assert made.notes["nodes"] == 12


def test_a_gru_stays_float_and_alone_is_refused(tmp_path: Path) -> None:
    start = gru()
    made = after(start, DynamicSettings(), tmp_path / "a")
    assert made.notes["nodes"] == 1 and operators(file_of(made))["GRU"] == 1 and len(made.notes["kept_float"]) == 1
    with pytest.raises(InputError, match="nothing of .* can be rounded at every call; the network has .*GRU"):
        after(start, DynamicSettings(keep_float=("Gemm",)), tmp_path / "b")


@pytest.mark.parametrize(
    ("also", "rounded"), [("Gemm", 3), ("MatMul", 2)]
)  # who else reads the weight, and how it lies
def test_layers_with_one_weight(tmp_path: Path, also: str, rounded: int) -> None:
    random = np.random.default_rng(0)
    attributes = {"transB": 1} if also == "Gemm" else {}
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], transB=1),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node(also, ["b", "w"], ["c"], **attributes),
        helper.make_node("Gemm", ["c", "v"], ["y"]),
    ]
    given = graph_of(tmp_path, nodes, w=random.normal(size=(16, 16)), v=random.normal(size=(16, 4)))
    made = after(given, DynamicSettings(), tmp_path / "made")
    part = given[1].parts.validation
    outputs = run_part_exactly(file_of(made), part)["y"]
    assert signal_to_noise(outputs, run_onnx(tmp_path / "given.onnx", part, 1)["y"]) > 30
    assert made.notes["nodes"] == 3
