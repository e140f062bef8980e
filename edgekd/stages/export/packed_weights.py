"""Weights of less than 8 bits in an ONNX file: several in a byte, and operators of the standard that unpack them.

ONNX Runtime unpacks them once, when it opens the file: what it then runs has integer weights of 8 bits where activations are
integers (a convolution behind a 4-bit type of ONNX would run in float), else weights in float.
"""

import math

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekd.models.onnx_graph import LEVELS, refill
from edgekd.models.weight_rounding import BITS, HIGHEST, Weights


def pack_weights(model: onnx.ModelProto) -> None:
    """Pack the levels of weights, and replace what dequantizes them where activations are in float, in place."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    integers = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    nodes: list[onnx.NodeProto] = []
    shared: set[str] = set()
    for node in model.graph.node:
        name = node.input[0] if node.op_type == "DequantizeLinear" else ""
        kind, found, _ = name.partition(LEVELS)
        if not found or name not in constants or kind not in BITS:
            nodes.append(node)
            continue
        builder = _Builder(name, kind, nodes, model.graph, shared)  # type: ignore[arg-type]
        levels, scales = (numpy_helper.to_array(constants[one]) for one in node.input[:2])
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        builder.dequantize(levels, scales, axis, node.output[0], integers=integers)
    used = {value.name for value in model.graph.output}
    wanted: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if used & set(node.output):
            wanted.insert(0, node)
            used |= set(node.input)
    refill(model.graph.node, wanted)
    refill(model.graph.initializer, [tensor for tensor in model.graph.initializer if tensor.name in used])


def packed(levels: NDArray[np.int8], kind: Weights) -> NDArray[np.uint8]:
    """Return levels as bytes (1, bytes): of the values put on end in 8 / bits equal parts, the first part has the lowest bits."""
    bits = BITS[kind]
    count = 8 // bits
    values = (levels.astype(np.int16) + HIGHEST[kind]).astype(np.uint8).reshape(-1)
    parts = np.pad(values, (0, -len(values) % count)).reshape(count, -1)
    shifted = parts << (bits * np.arange(count, dtype=np.uint8))[:, None]
    found: NDArray[np.uint8] = np.bitwise_or.reduce(shifted, axis=0, keepdims=True)
    return found


def _finer(kind: Weights) -> int:
    """Return how many steps of 8 bits, a power of 2, make one step of a weight: to those its layer's bias is rounded."""
    return int(2 ** math.floor(math.log2(HIGHEST["int8"] / HIGHEST[kind])))


class _Builder:
    """Adds the nodes of one weight to a list, and what they need to a graph; `known` are the constants that all have in common."""

    def __init__(
        self, name: str, kind: Weights, nodes: list[onnx.NodeProto], graph: onnx.GraphProto, known: set[str]
    ) -> None:
        self._name, self._kind, self._nodes, self._graph, self._known = name, kind, nodes, graph, known

    def dequantize(
        self, levels: NDArray[np.int8], scales: NDArray[np.float32], axis: int, output: str, *, integers: bool
    ) -> None:
        """Add what makes weights of levels: DequantizeLinear of 8 bits where a runtime has integers, else a product."""
        finer = _finer(self._kind) if integers else 1
        unpacked = self._unpacked(levels, "INT8" if integers else "FLOAT", finer)
        along = scales.shape if integers else [-1 if one == axis else 1 for one in range(levels.ndim)]
        scale = scales.reshape(along) / np.float32(finer)
        half = scale.astype(np.float16)
        lossless = not integers and bool((half == scale).all())  # a runtime's integers need scales in float32
        stored = self._constant("scale", half if lossless else scale)
        if lossless:
            stored = self._node("Cast", [stored], "scales", to=TensorProto.FLOAT)
        if integers:
            # without them, ONNX Runtime makes no QGemm
            zeros = self._shared(f"zeros_{scale.size}", np.zeros(scale.shape, np.int8))
            inputs = [unpacked, stored, zeros]
            self._nodes.append(helper.make_node("DequantizeLinear", inputs, [output], output, axis=axis))
        else:
            self._nodes.append(helper.make_node("Mul", [unpacked, stored], [output], output))

    def _unpacked(self, levels: NDArray[np.int8], kind: str, finer: int) -> str:
        to = getattr(TensorProto, kind)
        bits = BITS[self._kind]
        if bits == 8:
            stored = self._constant("levels", levels)
            return stored if kind == "INT8" else self._node("Cast", [stored], "values", to=to)
        shifts = (bits * np.arange(8 // bits, dtype=np.uint8))[:, None]
        inputs = [self._constant("packed", packed(levels, self._kind)), self._shared("shifts", shifts)]
        found = self._node("BitShift", inputs, "shifted", direction="RIGHT")
        found = self._node("BitwiseAnd", [found, self._shared("mask", np.uint8(2**bits - 1))], "masked")
        if levels.size % (8 // bits):
            found = self._node("Reshape", [found, self._shared("flat", np.array([-1]))], "flattened")
            ends = [self._constant(name, np.array([end])) for name, end in (("start", 0), ("end", levels.size))]
            found = self._node("Slice", [found, *ends], "whole")
        found = self._node("Reshape", [found, self._constant("shape", np.array(levels.shape))], "shaped")
        found = self._node("Cast", [found], "unsigned", to=TensorProto.FLOAT)
        found = self._node("Sub", [found, self._shared("offset", np.float32(HIGHEST[self._kind]))], "values")
        if finer > 1:
            found = self._node("Mul", [found, self._shared("finer", np.float32(finer))], "spread")
        return found if kind == "FLOAT" else self._node("Cast", [found], "integers", to=to)

    def _constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        name = f"{self._name}_{name}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _shared(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        """Return the name of a constant that all layers have in common: of narrow layers they would add up."""
        name = f"{self._kind}{LEVELS}{name}"
        if name not in self._known:
            self._known.add(name)
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        output = f"{self._name}_{output}"
        self._nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output
