"""ONNX Runtime as the executor of a quantization scheme: explicit Q/DQ nodes around the operators it runs in int8."""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from edgekd.errors import StageError
from edgekd.stages.export.onnx_writer import IR_VERSION
from edgekd.target import QuantizationScheme

OPERATORS = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu",
    "Clip", "LeakyRelu", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Resize", "Split", "Slice", "Pad",
)  # fmt: skip


def prepare(source: Path, destination: Path) -> None:
    """Fold what can be folded and infer shapes, so that batch norms and constants are not quantized on their own.

    Raises:
        StageError: ONNX Runtime cannot read the graph.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        with quiet():
            quant_pre_process(str(source), str(destination), skip_symbolic_shape=True)
    except Exception as error:  # its errors have no common base
        raise StageError(f"ONNX Runtime cannot prepare the graph for quantization: {error}") from error


def write_int8(
    prepared: onnx.ModelProto,
    ranges: dict[str, tuple[float, float]],
    scheme: QuantizationScheme,
    keep_float: tuple[str, ...],
    path: Path,
) -> None:
    """Write the graph in Q/DQ form with these activation ranges.

    Raises:
        StageError: the quantizer fails.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    kinds = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8, "int16": QuantType.QInt16, "int4": QuantType.QInt4}
    spans = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    copy = onnx.ModelProto()
    copy.CopyFrom(prepared)
    operators = [name for name in scheme.operators or OPERATORS if name not in keep_float]
    try:
        with quiet():
            quantizer = QDQQuantizer(
                copy,
                scheme.per_channel,
                False,  # reduce_range
                kinds[scheme.weight_dtype],
                kinds[scheme.activation_dtype],
                TensorsData(CalibrationMethod.MinMax, spans),
                [],  # all nodes of these operators ...
                [node.name for node in copy.graph.node if node.name in keep_float],  # ... but these
                operators,
                {
                    "ActivationSymmetric": scheme.activation_symmetric,
                    "WeightSymmetric": scheme.weight_symmetric,
                    "ForceQuantizeNoInputCheck": False,
                },
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
            proto = quantizer.model.model
    except Exception as error:  # its errors have no common base
        raise StageError(f"ONNX Runtime cannot quantize the graph: {error}") from error
    proto.ir_version = min(proto.ir_version, IR_VERSION)
    del proto.metadata_props[:]
    del proto.graph.value_info[:]
    onnx.save(proto, str(path))


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
