"""The numbers that an ONNX graph computes with and keeps its weights in, as one word."""

from math import prod
from typing import Literal

import onnx
from onnx import TensorProto

from edgekd.models.onnx_graph import LEVELS
from edgekd.models.weight_rounding import Weights

Precision = Literal[
    "fp32", "fp16", "int8", "int8+fp16", "int8-dynamic", "int8-weights", "int4-weights", "ternary-weights"
]

# What a runtime must run of each, in the words of a target's `precisions`: int4 is weights of less than 8 bits.
NEEDS: dict[Precision, tuple[str, ...]] = {
    "fp32": ("fp32",),
    "fp16": ("fp16",),
    "int8": ("int8",),
    "int8+fp16": ("int8", "fp16"),
    "int8-dynamic": ("int8",),
    "int8-weights": ("int8",),
    "int4-weights": ("int4",),
    "ternary-weights": ("int4",),
}
ALONE: dict[Weights, Precision] = {"int8": "int8-weights", "int4": "int4-weights", "ternary": "ternary-weights"}
DYNAMIC = {"MatMul": "MatMulInteger", "LSTM": "DynamicQuantizeLSTM", "Attention": "QAttention"}
_STATIC = {"QuantizeLinear", "QLinearConv", "QLinearMatMul"}
_FOUR_BITS = (TensorProto.INT4, TensorProto.UINT4)


def precision_of(model: onnx.ModelProto) -> Precision:
    """Return the precision of a graph: of its activations where they are integers, else of its weights.

    `int8` is static, `int8-dynamic` takes the ranges of its activations at every call. A graph whose weights alone are
    integers is named by the smallest of them.
    """
    operators = {node.op_type for node in model.graph.node}
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    if operators & _STATIC:
        return "int8+fp16" if TensorProto.FLOAT16 in kinds.values() or _casts_to_half(model) else "int8"
    if operators & {"DynamicQuantizeLinear", *DYNAMIC.values()}:
        return "int8-dynamic"
    for kind, name in ALONE.items():
        if any(one.startswith(f"{kind}{LEVELS}") for one in kinds):  # packed, after training
            return name
    rounded = {kinds.get(node.input[0]) for node in model.graph.node if node.op_type == "DequantizeLinear"} - {None}
    widths = {_attribute(node, "bits", 4) for node in model.graph.node if node.op_type == "MatMulNBits"}
    if rounded or widths:
        return "int4-weights" if 4 in widths or rounded & set(_FOUR_BITS) else "int8-weights"
    elements = {TensorProto.FLOAT: 0, TensorProto.FLOAT16: 0}
    for tensor in model.graph.initializer:
        if tensor.data_type in elements:
            elements[tensor.data_type] += prod(tensor.dims)
    return "fp16" if elements[TensorProto.FLOAT16] > elements[TensorProto.FLOAT] else "fp32"


def needs(precision: Precision, model: onnx.ModelProto) -> set[str]:
    """Return what a runtime must run of a graph, in the words of a target's `precisions`.

    Weights that training left packed need int4 beside integer activations too: TensorRT's parser knows no BitShift, and
    OpenVINO 2026.4 unpacks them wrongly without a word.
    """
    packed = any(
        tensor.name.startswith(f"{kind}{LEVELS}") for tensor in model.graph.initializer for kind in ("int4", "ternary")
    )
    return {*NEEDS[precision], *(NEEDS["int4-weights"] if packed else ())}


def _casts_to_half(model: onnx.ModelProto) -> bool:
    return any(node.op_type == "Cast" and _attribute(node, "to", 0) == TensorProto.FLOAT16 for node in model.graph.node)


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)
