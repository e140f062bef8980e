from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.device.runtimes.onnxruntime import node_times
from edgekd.errors import InputError
from edgekd.evaluate import run_onnx
from edgekd.metrics import signal_to_noise
from edgekd.models.onnx_graph import count_macs, count_parameters
from edgekd.models.precision import precision_of
from edgekd.stages.quantize.weight_only import STAGE, WeightOnlySettings
from edgekd.stages.quantize.weight_only.weights import find_weights
from tests.stages.quantize.other_precisions import Begun, after, file_of, graph_of, gru, vit


@pytest.fixture(scope="module")
def transformer() -> Begun:
    return vit()


@pytest.mark.parametrize(
    ("bits", "block", "symmetric"), [(4, 32, True), (4, 64, False), (8, 32, True), (8, 0, False), (4, 256, True)]
)
def test_the_bytes_are_what_the_formula_says(tmp_path: Path, bits: int, block: int, symmetric: bool) -> None:
    random = np.random.default_rng(0)
    sizes = (16, 500, 400, 4)
    names = ["x", "a", "b", "y"]
    nodes = [helper.make_node("MatMul", [names[n], f"w{n}"], [names[n + 1]]) for n in range(3)]
    weights = {f"w{n}": random.normal(size=(sizes[n], sizes[n + 1])) / 20 for n in range(3)}
    settings = WeightOnlySettings(bits=bits, block=block, symmetric=symmetric, rounding=("nearest",))  # type: ignore[arg-type]
    made = after(graph_of(tmp_path, nodes, **weights), settings, tmp_path / "a")
    before = (tmp_path / "given.onnx").stat().st_size
    formula = before - 4 * made.notes["weights"] + made.notes["packed_bytes"]
    assert made.notes["weights"] == 16 * 500 + 500 * 400 + 400 * 4
    assert abs(file_of(made).stat().st_size - formula) < 0.02 * formula


def test_the_file_runs_on_its_packed_weights_and_is_near_to_the_float_network(
    transformer: Begun, tmp_path: Path
) -> None:
    part = transformer[1].parts.validation
    ratios = {}
    for bits in (8, 4):
        made = after(transformer, WeightOnlySettings(bits=bits), tmp_path / str(bits))  # type: ignore[arg-type]
        path = file_of(made)
        reference = run_onnx(tmp_path / str(bits) / "float.onnx", part, 1)
        outputs = run_onnx(path, part, 1)
        ratios[bits] = min(signal_to_noise(outputs[name], reference[name]) for name in reference)
        ran = [one.operator for one in node_times(path, part.take(1).inputs(), 1, calls=1)]
        assert ran.count("MatMulNBits") == made.notes["nodes"] == 13 and "DequantizeLinear" not in ran
        assert made.form.precision == precision_of(onnx.load(str(path))) == f"int{bits}-weights"
        assert count_macs(path) == count_macs(tmp_path / str(bits) / "float.onnx")
        graphs = [onnx.load(str(one)) for one in (path, tmp_path / str(bits) / "prepared.onnx")]
        assert count_parameters(graphs[0]) == count_parameters(graphs[1])
    assert ratios[8] > 35 and 10 < ratios[4] < ratios[8]


def test_weights_of_a_gru_and_of_convolutions(transformer: Begun, tmp_path: Path) -> None:
    settings = WeightOnlySettings(operators=("GRU", "Gemm"), rounding=("nearest",))
    recurrent = gru()
    made = after(recurrent, settings, tmp_path / "gru")
    part = recurrent[1].parts.validation
    reference, outputs = (run_onnx(path, part, 1) for path in (tmp_path / "gru" / "float.onnx", file_of(made)))
    assert made.notes["nodes"] == 2 and not made.notes["kept_float"]
    assert all(signal_to_noise(outputs[name], reference[name]) > 30 for name in reference)
    settings = WeightOnlySettings(bits=4, operators=("Conv",))
    made = after(transformer, settings, tmp_path / "conv")
    levels = next(one for one in onnx.load(str(file_of(made))).graph.initializer if one.name.endswith("/levels"))
    assert levels.data_type == TensorProto.INT4 and len(levels.dims) == 4 and made.notes["nodes"] == 1


def test_what_is_kept_stays_float(transformer: Begun, tmp_path: Path) -> None:
    made = after(transformer, WeightOnlySettings(keep_float=("Gemm",), rounding=("nearest",)), tmp_path)
    graph = onnx.load(str(file_of(made))).graph
    gemm = next(node for node in graph.node if node.op_type == "Gemm")
    assert {one.name: one.data_type for one in graph.initializer}[gemm.input[1]] == TensorProto.FLOAT
    assert gemm.name in made.notes["kept_float"]


def test_tied_weights_stay_float_and_alone_are_refused(tmp_path: Path) -> None:
    weights = {"w": np.eye(16), "v": np.ones((16, 4))}
    twice = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["b"])]
    last = helper.make_node("MatMul", ["b", "v"], ["y"])
    made = after(graph_of(tmp_path, [*twice, last], **weights), WeightOnlySettings(), tmp_path / "a")
    assert made.notes["nodes"] == 1 and len(made.notes["kept_float"]) == 2
    settings = WeightOnlySettings(keep_float=(f"MatMul:{last.output[0]}",))
    with pytest.raises(InputError, match="no weights of Gemm, MatMul .*tied weights"):
        after(graph_of(tmp_path, [*twice, last], **weights), settings, tmp_path / "b")


def test_a_network_that_multiplies_nothing_is_refused(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, [helper.make_node("Add", ["x", "b"], ["y"], "last")], b=np.ones(16))
    with pytest.raises(InputError, match="can be rounded; nothing in the network multiplies by weights"):
        after(graph, WeightOnlySettings(), tmp_path)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """A file with them does not open; a training may leave them."""
    graph_of(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"], "last")], w=np.ones((16, 4)))
    model = onnx.load(str(tmp_path / "given.onnx"))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((16, 4), np.nan, np.float32), "w"))
    with pytest.raises(InputError, match="weights w of last hold NaN"):
        find_weights(model, ("MatMul",), ())


def test_unknown_names_are_refused(transformer: Begun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keep_float: no node, module or operator 'Gem'; nearest: Gemm"):
        after(transformer, WeightOnlySettings(keep_float=("Gem",)), tmp_path)


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"precisions": ("fp32", "int8")}, WeightOnlySettings(bits=4), "no int4; no runtime of this target does"),
        ({"newest_opset": 20}, WeightOnlySettings(), "need opset 21, onnxruntime takes up to 20"),
        ({"newest_opset": 20}, WeightOnlySettings(block=0), None),
    ],
)
def test_a_runtime_without_them_is_refused(
    transformer: Begun, changes: dict[str, object], settings: WeightOnlySettings, message: str | None
) -> None:
    state, context = transformer
    runtime = context.runtime.model_copy(update=changes)
    target = context.target.model_copy(update={"runtime": {context.runtime_name: runtime}})
    if message is None:
        STAGE.check(settings, state, replace(context, target=target))
        return
    with pytest.raises(InputError, match=message):
        STAGE.check(settings, state, replace(context, target=target))


def test_layers_with_relu_between_them_run_on_packed_weights(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["c"]),
        helper.make_node("Gemm", ["c", "v", "d"], ["e"]),
        helper.make_node("Clip", ["e", "", "six"], ["f"]),
        helper.make_node("Gemm", ["f", "u"], ["y"]),
    ]
    sizes = {"w": (16, 96), "b": (96,), "v": (96, 64), "d": (64,), "u": (64, 4), "six": ()}
    weights = {name: random.normal(size=size) for name, size in sizes.items()}
    weights["six"] = np.array(6.0)
    given = graph_of(tmp_path, nodes, **weights)
    made = after(given, WeightOnlySettings(bits=8), tmp_path / "made")
    part = given[1].parts.validation
    ran = [one.operator for one in node_times(file_of(made), part.take(1).inputs(), 1, calls=1)]
    assert ran.count("MatMulNBits") == 3 and "DequantizeLinear" not in ran
    reference = run_onnx(tmp_path / "given.onnx", part, 1)["y"]
    assert signal_to_noise(run_onnx(file_of(made), part, 1)["y"], reference) > 30
