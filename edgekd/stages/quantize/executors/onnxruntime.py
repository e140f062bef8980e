"""ONNX Runtime as the executor: Q/DQ nodes around all that its kernels run in int8, biases in int32."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgekd.context import Context
from edgekd.errors import StageError
from edgekd.models.qdq_graph import ACTIVATIONS
from edgekd.stages.export.onnx_writer import IR_VERSION
from edgekd.stages.quantize.calibration import Range
from edgekd.stages.quantize.executors.calibrated import CalibratedQuantizer
from edgekd.stages.quantize.executors.executor import Executor, refuse_foreign
from edgekd.stages.quantize.preparation import quiet
from edgekd.stages.quantize.rounding import RoundedLayer, with_rounded
from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.target import QuantizationScheme

OPERATORS = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu",
    "Clip", "LeakyRelu", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Resize", "Split", "Slice", "Pad",
)  # fmt: skip


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
                scheme.weight_range == "seven-bit",  # of weights that are rounded here
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


def _calibrate(
    prepared: onnx.ModelProto, scheme: QuantizationScheme, settings: QuantizeSettings, context: Context
) -> CalibratedQuantizer:
    return CalibratedQuantizer(prepared, scheme, settings, context, write_int8)


EXECUTOR = Executor("Q/DQ form, int32 biases", refuse_foreign, lambda: None, _calibrate)
