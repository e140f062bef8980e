from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.context import Context
from edgekd.device.runtimes import open_session
from edgekd.errors import InputError
from edgekd.evaluate import run_onnx
from edgekd.models.tensorrt_form import faults
from edgekd.request import Request, prepare
from edgekd.stages.quantize import STAGE, QuantizeSettings
from edgekd.stages.quantize.executors.tensorrt import write_explicit
from edgekd.state import ModelState, OnnxForm
from edgekd.target import QuantizationScheme
from tests.exact import run_exactly

SCHEME = QuantizationScheme(activation_dtype="int8", activation_symmetric=True)


@pytest.fixture
def prepared(example: Path) -> tuple[ModelState, Context]:
    made = prepare(Request(example / "model.pt", ("jetson-agx-orin-64gb",), threads=1))
    return made.opened.state, made.contexts[0]


def test_a_residual_network_is_written_as_tensorrt_wants_it(
    prepared: tuple[ModelState, Context], tmp_path: Path
) -> None:
    state, context = prepared
    settings = QuantizeSettings(calibrators=("mse",), rounding=("nearest",), float_noise=1, least_channels=1)
    after = STAGE.run(state, settings, replace(context, workdir=tmp_path))
    assert isinstance(after.form, OnnxForm)
    model = onnx.load(str(after.form.path))
    assert faults(model) == []
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    adds = [node for node in model.graph.node if node.op_type == "Add"]
    assert adds and all([makers[name] for name in node.input].count("DequantizeLinear") == 1 for node in adds)
    kinds = Counter(tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4)
    assert set(kinds) == {TensorProto.INT8}  # no float copy of a weight
    decided = run_onnx(after.form.path, context.parts.validation, 1)["output"].argmax(1)
    wanted = run_onnx(tmp_path / "float.onnx", context.parts.validation, 1)["output"].argmax(1)
    assert (decided == wanted).mean() >= 0.95


def test_what_is_kept_in_float_reads_and_weighs_in_float(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    state, context = prepared
    settings = QuantizeSettings(calibrators=("mse",), rounding=("nearest",), float_noise=1, keep_float=("Gemm", "Add"))
    after = STAGE.run(state, settings, replace(context, workdir=tmp_path))
    model = onnx.load(str(after.form.path))  # type: ignore[union-attr]
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    kept = [node for node in model.graph.node if node.op_type in ("Gemm", "Add")]
    assert kept and not any(makers.get(name) == "DequantizeLinear" for node in kept for name in node.input)


def test_transposed_convolutions_and_tied_weights(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights = {"t": random.normal(size=(4, 6, 2, 2)), "w": random.normal(size=(6, 6, 1, 1))}
    nodes = [
        helper.make_node("ConvTranspose", ["x", "t"], ["a"], "up", strides=[2, 2]),
        helper.make_node("Conv", ["a", "w"], ["b"], "first"),
        helper.make_node("Conv", ["b", "w"], ["y"], "second"),
    ]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    shapes = {"x": [1, 4, 4, 4], "y": [1, 6, 8, 8]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    onnx.save(model, str(tmp_path / "float.onnx"))
    x = random.normal(size=shapes["x"]).astype(np.float32)
    wanted = open_session("onnxruntime", tmp_path / "float.onnx", 1).run({"x": x})["y"]
    spans = {"x": (-3.0, 3.0), "a": (-12.0, 12.0), "b": (-30.0, 30.0)}
    write_explicit(model, spans, [], SCHEME, (), tmp_path / "int8.onnx")
    written = onnx.load(str(tmp_path / "int8.onnx"))
    assert faults(written) == []
    axes = {
        node.input[0]: node.attribute[0].i
        for node in written.graph.node
        if "weight" not in node.name and node.attribute
    }
    assert sorted(name for name in axes if name.startswith(("t/", "w/"))) == ["t/int8/1", "w/int8/0"]
    found = run_exactly(tmp_path / "int8.onnx", {"x": x})["y"]
    assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)


def test_another_scheme_is_refused(prepared: tuple[ModelState, Context]) -> None:
    state, context = prepared
    runtime = context.runtime.model_copy(update={"quantization": QuantizationScheme()})
    target = context.target.model_copy(update={"runtime": {"tensorrt": runtime}})
    with pytest.raises(InputError, match="jetson-agx-orin-64gb with tensorrt: TensorRT takes symmetric int8 only"):
        STAGE.check(QuantizeSettings(), state, replace(context, target=target))


def test_nvidia_s_parser_takes_the_file(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    trt = pytest.importorskip(
        "tensorrt_rtx", reason='pip install "edgekd[tensorrt]" checks the file with the real parser'
    )
    state, context = prepared
    settings = QuantizeSettings(calibrators=("mse",), rounding=("nearest",), float_noise=1)
    after = STAGE.run(state, settings, replace(context, workdir=tmp_path))
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(after.form.path)), parser.get_error(0).desc()  # type: ignore[union-attr]
