"""What an ONNX file keeps: the bytes of its weights by layer and element type."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import onnx
from onnx import TensorProto

_NAMES = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}
_BITS = {
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT64), 64),
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32), 32),
    **dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT16, TensorProto.UINT16), 16),
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4), 4),
}
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class StoredWeights:
    """The constants of one element type that one layer reads; `layer` is None for the scales of activations."""

    layer: str | None
    dtype: str
    elements: int
    bytes: int


def stored_weights(model: onnx.ModelProto) -> list[StoredWeights]:
    """Return what a graph keeps in initializers and constants, in the order of the layers that read them.

    The layer of a constant is the node that meets it with an activation, behind nodes that only dequantize or unpack it.
    """
    tensors = dict(_constants(model))
    fixed = set(tensors)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if all(name in fixed for name in node.input if name):
            fixed.update(node.output)
        for name in node.input:
            readers.setdefault(name, []).append(node)
    order = {id(node): number for number, node in enumerate(model.graph.node)}

    def layer_of(name: str) -> onnx.NodeProto | None:
        for node in readers.get(name, ()):
            found = layer_of(node.output[0]) if node.output[0] in fixed else node
            if found is not None:
                return found
        return None

    sums: dict[tuple[int, str | None, str], list[int]] = {}
    for name, tensor in tensors.items():
        node = layer_of(name)
        scale = node is None or node.op_type in _ROUNDING
        place = len(order) if node is None or scale else order[id(node)]
        label = None if node is None or scale else node.name or node.output[0]
        entry = sums.setdefault((place, label, _name(tensor.data_type)), [0, 0])
        entry[0] += prod(tensor.dims)
        entry[1] += _bytes(tensor)
    ordered = sorted(sums.items(), key=lambda one: (one[0][0], one[0][2]))
    return [StoredWeights(layer, dtype, elements, size) for (_, layer, dtype), (elements, size) in ordered]


def _constants(model: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in model.graph.initializer:
        yield tensor.name, tensor
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                yield node.output[0], attribute.t


def _name(data_type: int) -> str:
    return _NAMES.get(data_type) or str(TensorProto.DataType.Name(data_type)).lower()


def _bytes(tensor: TensorProto) -> int:
    return (prod(tensor.dims) * _BITS.get(tensor.data_type, 8) + 7) // 8
