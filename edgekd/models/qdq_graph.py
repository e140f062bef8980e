"""A graph in Q/DQ form: which nodes take rounded values, and the same graph with only some of them doing so.

A node reads an activation through QuantizeLinear and DequantizeLinear, and a weight through DequantizeLinear alone. Both
are undone for one reader without touching the others: it takes the tensor in front of the pair, or the float weight.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgekd.models.onnx_graph import MULTIPLIES, name_nodes, refill

# Rounded together with what makes their input; a quantizer may leave them to the rounding.
ACTIVATIONS = ("Relu", "Clip")
_SIGNED = re.compile("Conv|Gemm|MatMul|^Add$|^Sub$|BatchNormalization")  # makers of values of both signs
_PAIR = ("QuantizeLinear", "DequantizeLinear")
_NEAR = 0.5  # a rounded weight is this near to its own float weight, as a share of its length: 4 bits are at about 0.15


@dataclass(frozen=True)
class RoundedInput:
    """How a node reads an input rounded: the tensor in front, and its scale and zero point (one each, or one a channel)."""

    tensor: str
    scale: NDArray[np.float32]
    zero_point: NDArray[Any]
    constant: bool

    def span(self) -> tuple[float, float]:
        """Return the least and the greatest value of an activation that is not clipped."""
        kind = np.iinfo(self.zero_point.dtype)
        scale, zero_point = float(self.scale.reshape(-1)[0]), int(self.zero_point.reshape(-1)[0])
        return (kind.min - zero_point) * scale, (kind.max - zero_point) * scale


@dataclass(frozen=True)
class RoundedLayer:
    """A node with rounded inputs. `weight` is the float weight where it has a constant one: from the reference, if there."""

    name: str
    operator: str
    output: str
    inputs: tuple[RoundedInput, ...]
    weight: NDArray[np.float32] | None
    rounded_weight: NDArray[np.float32] | None

    @property
    def activation(self) -> RoundedInput | None:
        """Return the first input that is no constant."""
        return next((one for one in self.inputs if not one.constant), None)


class QdqGraph:
    """A graph in Q/DQ form beside its float graph, or alone.

    Args:
        quantized: the graph; nodes without a name get that of their first output.
        reference: the float graph, prepared in the same way (batch norms folded); its weights take the place of rounded
            ones. None: what rounding did to weights, and clipping to activations, stays.
    """

    def __init__(self, quantized: onnx.ModelProto, reference: onnx.ModelProto | None = None) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(quantized)
        name_nodes(self.model)
        self._makers = {name: node for node in self.model.graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self._floats: dict[str, NDArray[np.float32]] = {}
        self.unmatched: list[str] = []
        if reference is not None:
            self._restore(reference)
        self._saturate()
        if reference is not None:
            self._match(reference)
        self.layers = tuple(
            self._layer(node) for node in self.model.graph.node if not _rounds(node) and self._rounded(node)
        )

    def rounding(self, chosen: Collection[str]) -> onnx.ModelProto:
        """Return the graph in which the chosen nodes alone read rounded values, and make rounded outputs."""
        changed = onnx.ModelProto()
        changed.CopyFrom(self.model)
        needed: dict[str, NDArray[np.float32]] = {}

        def plain(name: str) -> str:
            before = self._before(name)
            if before is None:
                return name
            if self._makers[name].input[0] not in self._constants:
                return plain(before)
            needed[f"{name}/float"] = self._float(name)
            return f"{name}/float"

        for node in changed.graph.node:
            reads_rounded = node.name in chosen and not _rounds(node)
            for position, name in enumerate(node.input):
                if (node.op_type == "QuantizeLinear" and position == 0) or not (reads_rounded or _rounds(node)):
                    node.input[position] = plain(name)
        nodes = list(changed.graph.node)
        for value in changed.graph.output:
            inside = self._before(value.name)
            if inside is None or inside in self._constants:
                continue
            maker = self._makers.get(plain(value.name))
            if maker is None or maker.name not in chosen:
                nodes = [node for node in nodes if value.name not in node.output]
                nodes.append(helper.make_node("Identity", [plain(value.name)], [value.name], f"{value.name}/plain"))
        refill(changed.graph.node, nodes)
        changed.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in needed.items())
        del changed.graph.value_info[:]
        return changed

    def _before(self, name: str) -> str | None:
        """Return what stands in front of the pair that makes a tensor, or the constant; None where no pair makes it."""
        node = self._makers.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        first = node.input[0]
        if first in self._constants:
            return str(first)
        rounding = self._makers.get(first)
        return str(rounding.input[0]) if rounding is not None and rounding.op_type == "QuantizeLinear" else None

    def _rounded(self, node: onnx.NodeProto) -> list[str]:
        return [name for name in node.input if self._before(name) is not None]

    def _layer(self, node: onnx.NodeProto) -> RoundedLayer:
        inputs = []
        weight = rounded = None
        for position, name in enumerate(node.input):
            before = self._before(name)
            if before is None:
                continue
            pair = self._makers[name]
            scale, zero_point = self._scale(pair)
            constant = before in self._constants
            inputs.append(RoundedInput(before, scale, zero_point, constant))
            if constant and position == 1 and MULTIPLIES.search(node.op_type):
                weight, rounded = self._float(name), self._dequantized(name)
        return RoundedLayer(node.name, node.op_type, node.output[0], tuple(inputs), weight, rounded)

    def _scale(self, pair: onnx.NodeProto) -> tuple[NDArray[np.float32], NDArray[Any]]:
        scale = numpy_helper.to_array(self._constants[pair.input[1]]).astype(np.float32)
        if len(pair.input) > 2 and pair.input[2]:
            return scale, numpy_helper.to_array(self._constants[pair.input[2]])
        source = self._constants.get(pair.input[0])
        kind = np.uint8 if source is None else numpy_helper.to_array(source).dtype
        return scale, np.zeros(scale.shape, kind)

    def _dequantized(self, name: str) -> NDArray[np.float32]:
        """Return the values of a constant behind its DequantizeLinear."""
        pair = self._makers[name]
        values = numpy_helper.to_array(self._constants[pair.input[0]]).astype(np.float32)
        scale, zero_point = (one.astype(np.float32) for one in self._scale(pair))
        if scale.size > 1:
            shape = [1] * values.ndim
            shape[_axis(pair)] = scale.size
            scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
        found: NDArray[np.float32] = (values - zero_point) * scale
        return found

    def _float(self, name: str) -> NDArray[np.float32]:
        return self._floats.get(name, self._dequantized(name))

    def _restore(self, reference: onnx.ModelProto) -> None:
        """Put activation functions back that rounding has taken over: values below a zero point of 0 are clipped anyway."""
        uses = Counter(name for node in reference.graph.node for name in node.input)
        floats = {tensor.name: tensor for tensor in reference.graph.initializer}
        for node in reference.graph.node:
            if node.op_type not in ACTIVATIONS or uses[node.input[0]] > 1:
                continue
            source, output = node.input[0], node.output[0]
            maker = self._makers.get(output)
            bounds = [floats[name] for name in node.input[1:] if name in floats and name not in self._constants]
            if source in self._makers and maker is None:
                self._insert(node, bounds)
            elif source not in self._makers and maker is not None and maker.op_type not in (node.op_type, *_PAIR):
                # Its output is the name of what it was applied to.
                function = onnx.NodeProto.FromString(node.SerializeToString())
                function.input[0], function.output[0] = output, f"{output}/activation"
                self._insert(function, bounds)

    def _saturate(self) -> None:
        """Clip what a pair with the least zero point reads, as the pair does, where nothing else says that it is positive."""
        spans: dict[str, float] = {}
        for node in self.model.graph.node:
            maker = self._makers.get(node.input[0])
            if node.op_type != "QuantizeLinear" or maker is None or not _SIGNED.search(maker.op_type):
                continue
            scale, zero_point = (one.reshape(-1) for one in self._scale(node))
            limits = np.iinfo(zero_point.dtype)
            if zero_point.size == 1 and zero_point[0] == limits.min:
                spans[node.input[0]] = float(scale[0]) * (limits.max - limits.min)
        for source, high in spans.items():
            names = [f"{source}/low", f"{source}/high"]
            bounds = [
                numpy_helper.from_array(np.float32(one), name) for one, name in zip((0, high), names, strict=True)
            ]
            self._insert(helper.make_node("Clip", [source, *names], [f"{source}/clipped"], f"{source}/clip"), bounds)

    def _insert(self, function: onnx.NodeProto, constants: Sequence[onnx.TensorProto]) -> None:
        """Let everything that reads a tensor read it behind a function."""
        node = onnx.NodeProto.FromString(function.SerializeToString())
        source, output = node.input[0], node.output[0]
        place = list(self.model.graph.node).index(self._makers[source]) + 1
        for reader in self.model.graph.node:
            for position, name in enumerate(reader.input):
                if name == source:
                    reader.input[position] = output
        self.model.graph.node.insert(place, node)
        self.model.graph.initializer.extend(constants)
        self._makers = {name: one for one in self.model.graph.node for name in one.output}
        self._constants |= {tensor.name: tensor for tensor in self.model.graph.initializer}

    def _match(self, reference: onnx.ModelProto) -> None:
        """Find the float weights and biases of the nodes that multiply: those nearest to the rounded ones, each once."""
        floats = {tensor.name: tensor for tensor in reference.graph.initializer}
        free = [node for node in reference.graph.node if len(node.input) > 1 and node.input[1] in floats]
        for node in self.model.graph.node:
            if not MULTIPLIES.search(node.op_type) or len(node.input) < 2:
                continue
            before = self._before(node.input[1])
            if before is None or before not in self._constants:
                continue
            rounded = self._dequantized(node.input[1])
            length = max(float(np.linalg.norm(rounded)), 1e-12)
            distances = {
                number: float(np.linalg.norm(numpy_helper.to_array(floats[other.input[1]]) - rounded)) / length
                for number, other in enumerate(free)
                if _kind(other) == _kind(node) and tuple(floats[other.input[1]].dims) == rounded.shape
            }
            nearest = min(distances, key=lambda number: distances[number], default=None)
            if nearest is None or distances[nearest] > _NEAR:
                self.unmatched.append(node.name)
                continue
            other = free.pop(nearest)
            for mine, theirs in zip(node.input[1:], other.input[1:], strict=False):
                if theirs in floats and self._before(mine) is not None:
                    self._floats[mine] = numpy_helper.to_array(floats[theirs]).astype(np.float32)


def exposing(model: onnx.ModelProto, tensors: Collection[str]) -> onnx.ModelProto:
    """Return the graph with further outputs: these tensors."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    known = {value.name for value in changed.graph.output}
    changed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in known)
    return changed


def _rounds(node: onnx.NodeProto) -> bool:
    return node.op_type in _PAIR


def _kind(node: onnx.NodeProto) -> str:
    """Return the operator; a linear layer of a float graph may have become a Gemm."""
    return "MatMul" if node.op_type == "Gemm" else str(node.op_type)


def _axis(pair: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in pair.attribute if attribute.name == "axis"), 1)
