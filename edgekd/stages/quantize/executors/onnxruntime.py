"""ONNX Runtime as the executor: Q/DQ nodes where its integer kernels pay, biases in int32."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgekd.context import Context
from edgekd.errors import StageError
from edgekd.models.onnx_graph import MULTIPLIES
from edgekd.models.qdq_graph import ACTIVATIONS
from edgekd.stages.export.onnx_writer import IR_VERSION
from edgekd.stages.quantize.calibration import Range
from edgekd.stages.quantize.executors.calibrated import CalibratedQuantizer
from edgekd.stages.quantize.executors.executor import Executor, refuse_foreign
from edgekd.stages.quantize.linear_layers import as_gemm
from edgekd.stages.quantize.placement import Placement, place
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
    operators = scheme.operators or OPERATORS
    placement = place(prepared, _able(prepared, operators, keep_float))
    layers = [one for one in layers if one.layer.node in placement.integer]
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
                [],  # all nodes but the next ones
                sorted(node.name for node in prepared.graph.node if node.name not in placement.integer),
                list(operators),
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
    _leave_float(proto, placement)
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


def _able(prepared: onnx.ModelProto, operators: Collection[str], keep_float: Collection[str]) -> set[str]:
    """Return the nodes that integer kernels can run, but products of two activations, whose packing costs more than it saves."""
    constants = {tensor.name for tensor in prepared.graph.initializer}
    return {
        node.name
        for node in prepared.graph.node
        if node.op_type in operators
        and node.name not in keep_float
        and (not MULTIPLIES.search(node.op_type) or node.input[1] in constants)
    }


def _leave_float(proto: onnx.ModelProto, placement: Placement) -> None:
    """Give floats that linear layers make to the readers that take floats, without rounding them in between."""
    outputs = {value.name for value in proto.graph.output}
    makers = {name: node for node in proto.graph.node for name in node.output}
    dequantizers = {node.input[0]: node for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    superfluous = []
    for quantize in [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]:
        dequantize = dequantizers[quantize.output[0]]
        name = dequantize.output[0] if dequantize.output[0] in outputs else quantize.input[0]
        if name not in placement.float_outputs:
            continue
        if name in outputs:  # the quantizer has put its pair in front of the name
            makers[quantize.input[0]].output[0] = quantize.input[0] = name
            dequantize.output[0] = f"{name}/rounded"
        readers = [node for node in proto.graph.node if {name, dequantize.output[0]} & set(node.input)]
        for node in readers:
            wanted = dequantize.output[0] if node.name in placement.integer else name
            taken = (name, dequantize.output[0])
            if node is not quantize:
                node.input[:] = [wanted if one in taken else one for one in node.input]
        if not any(dequantize.output[0] in node.input for node in readers):
            superfluous += [quantize, dequantize]
    for node in superfluous:
        proto.graph.node.remove(node)


def _calibrate(
    prepared: onnx.ModelProto, scheme: QuantizationScheme, settings: QuantizeSettings, context: Context
) -> CalibratedQuantizer:
    return CalibratedQuantizer(as_gemm(prepared, settings.keep_float), scheme, settings, context, write_int8)


EXECUTOR = Executor("Q/DQ form, int32 biases", refuse_foreign, lambda: None, _calibrate)
