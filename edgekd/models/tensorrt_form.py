"""The Q/DQ form that TensorRT reads: a linter of its rules, on the ONNX graph alone.

TensorRT's parser refuses some graphs that ONNX allows; others it takes, and runs their layers in float without a word.
The rules were tried with the parser and builder of TensorRT-RTX 1.7.1, and are those of NVIDIA's page on explicit
quantization.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

OWN = {"", "ai.onnx"}  # the domains of ONNX itself
INTEGER_OPERATORS = (
    "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "FusedConv", "QGemm",
)  # fmt: skip
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
LEAST_OPSET = 13
_SIGNED = (TensorProto.INT8, TensorProto.INT4)

Effect = Literal["refused", "float", "slower"]


@dataclass(frozen=True)
class Fault:
    """A node that breaks a rule, and what comes of it: the parser refuses, the layer runs in float, or it runs slower."""

    node: str
    effect: Effect
    message: str

    def __str__(self) -> str:
        """Return it as a sentence."""
        return f"{self.node}: {self.message}"


def faults(model: onnx.ModelProto) -> list[Fault]:
    """Return what TensorRT would refuse, run in float or run slowly, in the order of the graph."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in OWN), 0)
    found = []
    if opset < LEAST_OPSET:
        found.append(Fault("the graph", "refused", f"opset {opset} has no scale a channel; {LEAST_OPSET} or later has"))
    return [*found, *_Form(model).faults()]


def layer_axis(node: onnx.NodeProto, rank: int) -> int:
    """Return the axis of a layer's weight that counts its outputs: its scales lie along it."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 0 if transposed else 1
    return 1 if node.op_type == "ConvTranspose" else rank - 1


class _Form:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._nodes = list(model.graph.node)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {name: node for node in self._nodes for name in node.output}

    def faults(self) -> Iterator[Fault]:
        for node in self._nodes:
            if node.domain not in OWN:
                yield _fault(node, "refused", f"the operator is of {node.domain!r}, which TensorRT does not know")
            elif node.op_type in INTEGER_OPERATORS:
                yield _fault(node, "refused", "TensorRT takes the Q/DQ form, no integer operators")
            elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                yield from self._of_pair(node)
            elif node.op_type in LAYERS:
                yield from self._of_layer(node)
            elif node.op_type == "Add":
                yield from self._of_add(node)

    def _of_pair(self, node: onnx.NodeProto) -> Iterator[Fault]:
        kind = self._integer_of(node)
        if kind == TensorProto.INT32:
            yield _fault(node, "refused", "int32 behind DequantizeLinear, as of a rounded bias; biases stay in float")
        elif kind not in _SIGNED:
            yield _fault(node, "refused", f"{TensorProto.DataType.Name(kind).lower()} values; TensorRT's are int8")
        zero_point = self._value(node, 2)
        if zero_point is not None and zero_point.any():
            yield _fault(node, "refused", f"zero point {zero_point.reshape(-1)[0]}; TensorRT's are 0")
        scale = self._value(node, 1)
        if scale is None:
            yield _fault(node, "refused", "the scale is computed; TensorRT wants a constant")
        elif scale.size > 1 and not self._is_constant(node):
            yield _fault(node, "float", "an activation with a scale a channel; TensorRT's have one")

    def _of_layer(self, node: onnx.NodeProto) -> Iterator[Fault]:
        if len(node.input) > 2 and self._pair(node.input[2]) is not None:
            kind = self._integer_of(self._makers[node.input[2]])
            if kind != TensorProto.INT32:  # which is said of the pair already
                yield _fault(node, "slower", "the bias is rounded; TensorRT adds it in float")
        rounded = [self._pair(name) is not None for name in node.input[:2]]
        if any(rounded) and not all(rounded):
            which = "weight" if rounded[0] else "input"
            yield _fault(node, "float", f"its {which} is not rounded; all inputs of a layer are, or none")
        weight = self._pair(node.input[1])
        scale = None if weight is None else self._value(weight, 1)
        if weight is None or scale is None or scale.size == 1 or not self._is_constant(weight):
            return
        rank = len(self._constants[self._source(weight)].dims)
        wanted, axis = layer_axis(node, rank), _axis(weight) % rank
        if axis != wanted:
            yield _fault(node, "float", f"scales along axis {axis} of its weight; {node.op_type} wants axis {wanted}")

    def _of_add(self, node: onnx.NodeProto) -> Iterator[Fault]:
        """A layer and the addition behind it are one kernel, where the layer's output is not rounded and the other input is."""
        pairs = [self._pair(name) for name in node.input]
        sources = [
            self._source(pair) if pair is not None else name for pair, name in zip(pairs, node.input, strict=True)
        ]
        integer = [self._is_integer_layer(self._makers.get(name)) for name in sources]
        if any(name in self._constants for name in sources) or not any(integer):
            return
        plain = [one and pair is None for one, pair in zip(integer, pairs, strict=True)]
        if not any(plain):
            yield _fault(
                node, "slower", "both inputs are rounded; the layer in front would be one kernel with it otherwise"
            )
        elif all(pair is None for pair in pairs):
            yield _fault(node, "slower", "its residual input is not rounded, so that the layer in front writes floats")

    def _is_integer_layer(self, node: onnx.NodeProto | None) -> bool:
        return node is not None and node.op_type in LAYERS and all(self._pair(name) for name in node.input[:2])

    def _pair(self, name: str) -> onnx.NodeProto | None:
        """Return the DequantizeLinear that makes a tensor, or None."""
        node = self._makers.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def _source(self, pair: onnx.NodeProto) -> str:
        """Return what a pair rounds: the tensor in front of it, or the constant behind its one half."""
        maker = self._makers.get(pair.input[0])
        rounds = maker is not None and maker.op_type == "QuantizeLinear"
        return str(maker.input[0]) if maker is not None and rounds else str(pair.input[0])

    def _is_constant(self, node: onnx.NodeProto) -> bool:
        source = node.input[0] if node.op_type == "QuantizeLinear" else self._source(node)
        return source in self._constants

    def _integer_of(self, node: onnx.NodeProto) -> int:
        """Return the type of the integers that a node makes or reads."""
        if len(node.input) > 2 and node.input[2] in self._constants:
            return int(self._constants[node.input[2]].data_type)
        if node.op_type == "QuantizeLinear":
            wanted = next((one.i for one in node.attribute if one.name == "output_dtype"), 0)
            return int(wanted or TensorProto.UINT8)  # what ONNX takes where nothing is said
        if node.input[0] in self._constants:
            return int(self._constants[node.input[0]].data_type)
        maker = self._makers.get(node.input[0])
        return self._integer_of(maker) if maker is not None and maker.op_type == "QuantizeLinear" else TensorProto.UINT8

    def _value(self, node: onnx.NodeProto, position: int) -> NDArray[Any] | None:
        if len(node.input) <= position or node.input[position] not in self._constants:
            return None
        return np.asarray(numpy_helper.to_array(self._constants[node.input[position]]))


def _fault(node: onnx.NodeProto, effect: Effect, message: str) -> Fault:
    return Fault(f"{node.op_type} {node.name or node.output[0]}", effect, message)


def _axis(pair: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in pair.attribute if attribute.name == "axis"), 1)
