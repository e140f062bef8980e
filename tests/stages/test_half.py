from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.device.runtimes.onnxruntime import node_times
from edgekd.errors import InputError
from edgekd.evaluate import run_onnx
from edgekd.metrics import signal_to_noise
from edgekd.models.precision import precision_of
from edgekd.models.qdq_graph import QdqGraph
from edgekd.stages.half import STAGE, HalfSettings
from edgekd.stages.half.conversion import to_float
from edgekd.stages.quantize import QuantizeSettings
from tests.stages.quantize.other_precisions import Begun, after, file_of, graph_of, vit


@pytest.fixture(scope="module")
def transformer() -> Begun:
    return vit()


def test_half_the_bytes_and_the_same_outputs(transformer: Begun, tmp_path: Path) -> None:
    made = after(transformer, HalfSettings(), tmp_path)
    part, path = transformer[1].parts.validation, file_of(made)
    reference, outputs = run_onnx(tmp_path / "float.onnx", part, 1), run_onnx(path, part, 1)
    assert all(signal_to_noise(outputs[name], reference[name]) > 50 for name in reference)
    model = onnx.load(str(path))
    assert made.form.precision == precision_of(model) == "fp16"
    assert path.stat().st_size < 0.6 * (tmp_path / "float.onnx").stat().st_size
    kinds = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert kinds == {TensorProto.FLOAT} and sum(node.op_type == "Cast" for node in model.graph.node) == 2


def test_float_nodes_have_one_cast_a_border(transformer: Begun, tmp_path: Path) -> None:
    """Also where two of them read one tensor, and none between two in a row."""
    made = after(transformer, HalfSettings(keep_float=("MatMul", "Add", "LayerNormalization")), tmp_path)
    model = onnx.load(str(file_of(made)))
    onnx.checker.check_model(model, full_check=True)
    casts = [(node.input[0], node.attribute[0].i) for node in model.graph.node if node.op_type == "Cast"]
    assert len(casts) == len(set(casts))
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    assert not any(node.op_type == "Cast" and makers.get(node.input[0]) == "Cast" for node in model.graph.node)


def test_behind_int8_what_is_not_int8_goes_to_float16(transformer: Begun, tmp_path: Path) -> None:
    """ONNX Runtime 1.31 gets pairs of Q/DQ with float16 scales wrong (WeightBiasQuantization): they stay in float32."""
    context = transformer[1]
    rounded = after(transformer, QuantizeSettings(calibrators=("min-max",), rounding=("nearest",)), tmp_path / "a")
    made = after((rounded, context), HalfSettings(), tmp_path / "b")
    model, part = onnx.load(str(file_of(made))), context.parts.validation
    before, outputs = (run_onnx(file_of(one), part, 1) for one in (rounded, made))
    assert made.form.precision == precision_of(model) == "int8+fp16"
    assert all(signal_to_noise(outputs[name], before[name]) > 30 for name in before)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs and all(kinds[node.input[1]] == TensorProto.FLOAT for node in pairs)
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert norms and all(kinds[node.input[1]] == TensorProto.FLOAT16 for node in norms)

    def integers(path: Path) -> int:
        ran = [one.operator for one in node_times(path, part.take(1).inputs(), 1, calls=1)]
        # The quantizer asks for no integer Softmax; ONNX Runtime fuses one where it stands between pairs in float32.
        return sum(name.startswith(("QLinear", "QGemm", "MatMulInteger")) for name in ran if name != "QLinearSoftmax")

    assert integers(file_of(made)) == integers(file_of(rounded)) > 0


def test_float16_goes_back_to_float32_without_a_cast(transformer: Begun, tmp_path: Path) -> None:
    rounded = after(transformer, QuantizeSettings(calibrators=("min-max",), rounding=("nearest",)), tmp_path / "a")
    made = after((rounded, transformer[1]), HalfSettings(), tmp_path / "b")
    wide = to_float(onnx.load(str(file_of(made))))
    onnx.checker.check_model(wide, full_check=True)
    onnx.save(wide, str(tmp_path / "wide.onnx"))
    assert precision_of(wide) == "int8" and not any(node.op_type == "Cast" for node in wide.graph.node)
    part = transformer[1].parts.validation
    before, outputs = run_onnx(file_of(rounded), part, 1), run_onnx(tmp_path / "wide.onnx", part, 1)
    assert all(signal_to_noise(outputs[name], before[name]) > 30 for name in before)
    assert len(QdqGraph(wide).layers) == len(QdqGraph(onnx.load(str(file_of(rounded)))).layers)


def test_what_float16_cannot_hold_stays_float32(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "large"),
        helper.make_node("Mul", ["a", "small"], ["b"], "tiny"),
        helper.make_node("MatMul", ["b", "v"], ["c"], "fits"),
        helper.make_node("Mul", ["c", "huge"], ["y"], "weight"),
    ]
    weights = {
        "w": np.full((16, 16), 3e4),
        "small": np.array(1e-9),
        "v": np.ones((16, 4)),
        "huge": np.full(4, 1e5),
    }
    made = after(graph_of(tmp_path, nodes, **weights), HalfSettings(), tmp_path / "a")
    assert made.notes["kept_float"] == {
        "large": "activations out of range",
        "tiny": "weights out of range",
        "weight": "weights out of range",
    }
    constants = {one.name: numpy_helper.to_array(one).dtype for one in onnx.load(str(file_of(made))).graph.initializer}
    assert constants["v/half"] == np.float16 and constants["w"] == constants["huge"] == np.float32


def test_nothing_to_convert_and_no_numbers_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "only")]
    with pytest.raises(InputError, match="leave half out"):
        after(graph_of(tmp_path, nodes, w=np.ones((16, 4))), HalfSettings(keep_float=("only",)), tmp_path / "a")
    start = graph_of(tmp_path, nodes, w=np.ones((16, 4)))
    model = onnx.load(str(tmp_path / "given.onnx"))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((16, 4), np.nan, np.float32), "w"))
    onnx.save(model, str(tmp_path / "given.onnx"))  # a file with them does not open; a training may leave them
    with pytest.raises(InputError, match="weights w hold NaN"):
        after(start, HalfSettings(), tmp_path / "b")


def test_a_runtime_without_float16_is_refused_unless_bytes_count(transformer: Begun) -> None:
    state, context = transformer
    with pytest.raises(InputError, match="no fp16; no runtime of this target does; storage_only = true"):
        STAGE.check(HalfSettings(), state, context)
    STAGE.check(HalfSettings(storage_only=True), state, context)


def test_half_takes_float_or_static_int8() -> None:
    assert [STAGE.becomes(HalfSettings(), before) for before in ("fp32", "int8")] == ["fp16", "int8+fp16"]
    with pytest.raises(InputError, match="int4-weights by then"):
        STAGE.becomes(HalfSettings(), "int4-weights")
