"""ONNX Runtime as the executor of a quantization scheme: explicit Q/DQ nodes around the operators it runs in int8."""

import contextlib
import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter

from edgekd.errors import StageError
from edgekd.models.onnx_graph import graph_inputs, name_nodes
from edgekd.stages.export.onnx_writer import IR_VERSION
from edgekd.stages.quantize.calibration import Range
from edgekd.stages.quantize.observation import ACTIVATIONS
from edgekd.stages.quantize.rounding import RoundedLayer, with_rounded
from edgekd.target import QuantizationScheme

OPERATORS = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu",
    "Clip", "LeakyRelu", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Resize", "Split", "Slice", "Pad",
)  # fmt: skip
_MIN_OPSET = 13  # the first one with a scale for each channel
_MIN_IR = 7  # which came with it


def prepare(source: Path, destination: Path, log: Callable[[str], None] = lambda message: None) -> onnx.ModelProto:
    """Fold what can be folded and infer shapes, so that batch norms and constants are not quantized on their own.

    A graph in an opset without a scale for each channel is converted to a later one. Every node of the graph that is written and returned has a name of its own.

    Raises:
        StageError: ONNX Runtime cannot read the graph.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        with quiet():
            source = _modern(source, destination.with_suffix(".converted.onnx"), log)
            quant_pre_process(str(source), str(destination), skip_symbolic_shape=True)
    except Exception as error:  # its errors have no common base
        raise StageError(f"ONNX Runtime cannot prepare the graph for quantization: {error}") from error
    prepared = onnx.load(str(destination))
    inputs = graph_inputs(prepared)  # without weights, which old files list too
    del prepared.graph.input[:]
    prepared.graph.input.extend(inputs)
    prepared.ir_version = max(prepared.ir_version, _MIN_IR)
    name_nodes(prepared)
    onnx.save(prepared, str(destination))
    return prepared


def _modern(source: Path, destination: Path, log: Callable[[str], None]) -> Path:
    """Return the graph in an opset that has a scale for each channel: the file itself, or a converted copy."""
    model = onnx.load(str(source))
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), _MIN_OPSET)
    if opset >= _MIN_OPSET:
        return source
    log(f"quantize: the graph is converted from opset {opset} to {_MIN_OPSET}")
    onnx.save(onnx.version_converter.convert_version(model, _MIN_OPSET), str(destination))
    return destination


def write_int8(
    prepared: onnx.ModelProto,
    ranges: dict[str, Range],
    layers: list[RoundedLayer],
    scheme: QuantizationScheme,
    keep_float: tuple[str, ...],
    path: Path,
) -> None:
    """Write the graph in Q/DQ form with these activation ranges and rounded layers; other weights are rounded here.

    Raises:
        StageError: the quantizer fails.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    kinds = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8, "int16": QuantType.QInt16, "int4": QuantType.QInt4}
    spans = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    kept = {node.name for node in prepared.graph.node if node.name in keep_float or node.op_type in keep_float}
    operators = [name for name in scheme.operators or OPERATORS if name not in keep_float]
    layers = [one for one in layers if one.layer.node not in kept and one.layer.kind in operators]
    rounded = with_rounded(prepared, layers)
    for node in reversed(rounded.graph.node):  # the last of a row of them has a range of its own
        if node.op_type in ACTIVATIONS and node.output[0] in spans:
            spans.setdefault(node.input[0], spans[node.output[0]])
    try:
        with quiet():
            quantizer = QDQQuantizer(
                rounded,
                scheme.per_channel,
                False,  # reduce_range
                kinds[scheme.weight_dtype],
                kinds[scheme.activation_dtype],
                TensorsData(CalibrationMethod.MinMax, spans),
                [],  # all nodes of these operators ...
                sorted(kept),  # ... but these
                operators,
                {
                    "ActivationSymmetric": scheme.activation_symmetric,
                    "WeightSymmetric": scheme.weight_symmetric,
                    "ForceQuantizeNoInputCheck": False,
                    "TensorQuantOverrides": _steps(layers, scheme, kinds[scheme.weight_dtype]),
                },
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
            proto = quantizer.model.model
    except Exception as error:  # its errors have no common base
        raise StageError(f"ONNX Runtime cannot quantize the graph: {error}") from error
    _leave_outputs_float(proto)
    proto.ir_version = min(proto.ir_version, IR_VERSION)
    del proto.metadata_props[:]
    del proto.graph.value_info[:]
    onnx.save(proto, str(path))


def _steps(layers: list[RoundedLayer], scheme: QuantizationScheme, kind: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the steps of the rounded weights as the quantizer wants them: a dictionary for each output channel."""
    overrides = {}
    for one in layers:
        axis: dict[str, Any] = {"axis": one.layer.axis} if scheme.per_channel else {}
        overrides[one.layer.weight] = [
            {**axis, "quant_type": kind, "scale": step, "zero_point": np.int8(0)} for step in one.steps
        ]
    return overrides


def _leave_outputs_float(proto: onnx.ModelProto) -> None:
    """Take the rounding off outputs that a Gemm or MatMul makes: the integer kernels give floats as fast."""
    makers = {name: node for node in proto.graph.node for name in node.output}
    users = Counter(name for node in proto.graph.node for name in node.input)
    for value in proto.graph.output:
        last = makers.get(value.name)
        rounding = makers.get(last.input[0]) if last is not None and last.op_type == "DequantizeLinear" else None
        if last is None or rounding is None or rounding.op_type != "QuantizeLinear":
            continue
        maker = makers.get(rounding.input[0])
        alone = users[value.name] == 0 and users[rounding.output[0]] == users[rounding.input[0]] == 1
        if maker is not None and maker.op_type in ("Gemm", "MatMul") and alone:
            maker.output[0] = value.name
            proto.graph.node.remove(last)
            proto.graph.node.remove(rounding)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the quantizer's advice off the terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
