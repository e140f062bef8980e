"""What a network asks of a board: the kernels that a runtime makes of an ONNX graph, and what each computes and moves.

A kernel is a node that works, with what runtimes fuse into it: batch norm, activation function, residual addition, the
rounding in front of it and behind it.

```
 x ─DQ─▶ Conv ─▶ BatchNorm ─▶ Sigmoid ─┐
              └──────────────▶ Mul ◀───┘─▶ Add ◀─DQ─ y        one kernel: reads x and y, writes one tensor
                                           └─Q─▶
```
Nodes that only rename (Reshape, Flatten ...) and those that compute constants cost nothing.
"""

import math
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import onnx
from onnx import TensorProto, helper

from edgekd.device.runtimes.onnxruntime import write_optimized
from edgekd.errors import InputError, device_errors_as
from edgekd.models.onnx_graph import (
    MULTIPLIES,
    RECURRENT,
    at_batch,
    graph_signature,
    inferred_values,
    name_nodes,
    node_macs,
)

Operator = Literal[
    "conv", "pointwise", "depthwise", "grouped", "transposed", "dense", "product", "recurrent",
    "pool", "elementwise", "rescaled", "normalize", "move", "convert", "other",
]  # fmt: skip
Width = Literal["fp32", "fp16", "int8"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)
BYTES: dict[Width, int] = {"fp32": 4, "fp16": 2, "int8": 1}

_RENAMES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Shape", "Constant", "ConstantOfShape")
_EXPONENTIALS = (
    *("Sigmoid", "Tanh", "Exp", "Erf", "Gelu", "Mish", "Softplus", "Elu", "Selu", "Swish", "Log", "Pow"),
    *("Softmax", "LogSoftmax"),
)
_ELEMENTWISE = (
    *("Add", "Sub", "Mul", "Div", "Relu", "Clip", "LeakyRelu", "PRelu", "HardSigmoid", "HardSwish", "Sqrt", "Neg"),
    *("Abs", "Min", "Max", "Reciprocal", "BatchNormalization", "Cast", "Where", "Not", "And", "Or", "Equal", "Less"),
    *("Greater", "GreaterOrEqual", "LessOrEqual", "Floor", "Ceil", "Round", "Mod", "Sign", "Sin", "Cos"),
    *_EXPONENTIALS[:-2],
)
_POOLS = (
    *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"),
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd", "ArgMax", "ArgMin"),
)
_NORMALIZES = (
    *("Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization"),
    *("RMSNormalization", "LRN", "LpNormalization"),
)
_MOVES = (
    *("Concat", "Split", "Slice", "Transpose", "Pad", "Gather", "GatherElements", "GatherND", "Expand", "Tile"),
    *("Resize", "Upsample", "DepthToSpace", "SpaceToDepth", "ScatterND", "ScatterElements", "TopK", "Range"),
)
_INTEGERS = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16)
_SIZES = {
    TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2, TensorProto.INT16: 2, TensorProto.UINT16: 2, TensorProto.INT8: 1,
    TensorProto.UINT8: 1, TensorProto.BOOL: 1, TensorProto.INT64: 8, TensorProto.DOUBLE: 8, TensorProto.INT4: 0.5,
    TensorProto.UINT4: 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """One kernel at batch 1.

    `macs` are multiply-accumulates, `operations` the other arithmetic (an element once for each fused step),
    `exponentials` those of them that take an exponential or the like. `reads`, `writes` and `weights` are elements,
    `bytes` all three together as they are stored. `inputs` and `outputs` are channels, `positions` the places of the
    output that each has, `window` the taps of a filter over one channel. `nodes` names its nodes and the tensors that they
    make, after which runtimes call what they have fused.
    """

    name: str
    operator: Operator
    width: Width
    macs: int = 0
    operations: int = 0
    exponentials: int = 0
    reads: int = 0
    writes: int = 0
    weights: int = 0
    bytes: int = 0
    inputs: int = 1
    outputs: int = 1
    positions: int = 1
    window: int = 1
    stride: int = 1
    groups: int = 1
    nodes: tuple[str, ...] = ()

    def stored_as(self, width: Width) -> "Kernel":
        """Return the same kernel with every element in another width, as a runtime converts a float file."""
        return replace(self, width=width, bytes=(self.reads + self.writes + self.weights) * BYTES[width])


def kernels_of(model: onnx.ModelProto) -> list[Kernel]:
    """Return the kernels of a float or Q/DQ graph, in their order.

    Raises:
        InputError: an axis other than the batch has no fixed size, or the shapes behind a node are not known.
    """
    graph_signature(model)
    grouping = _Grouping(model)
    try:
        return grouping.kernels()
    except InputError:  # older exporters compute shapes in the graph
        return _Grouping(_folded(model)).kernels()


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph at batch 1 after ONNX Runtime has computed what does not depend on the inputs."""
    with tempfile.TemporaryDirectory() as folder, device_errors_as(InputError):
        source, path = Path(folder) / "source.onnx", Path(folder) / "folded.onnx"
        onnx.save(at_batch(model, 1), str(source))
        write_optimized(source, path)
        return onnx.load(str(path))


@dataclass
class _Group:
    """A kernel while nodes are added to it: its first node, all of them, and the tensor that it leaves."""

    first: onnx.NodeProto
    nodes: list[onnx.NodeProto]
    reads: list[str]
    output: str
    rounds: bool = False
    names: list[str] = field(default_factory=list)


class _Grouping:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = at_batch(model, 1)
        name_nodes(self._model)
        graph = self._model.graph
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, int] = {}
        for value in inferred_values(self._model):
            kind = value.type.tensor_type
            self._types[value.name] = kind.elem_type
            sizes = tuple(axis.dim_value for axis in kind.shape.dim)
            if kind.HasField("shape") and all(axis.HasField("dim_value") for axis in kind.shape.dim):
                self._shapes[value.name] = sizes
        self._constants = {tensor.name for tensor in graph.initializer}
        for tensor in graph.initializer:
            self._shapes[tensor.name], self._types[tensor.name] = tuple(tensor.dims), tensor.data_type
        self._macs = {node.name: macs for node, macs in node_macs(self._model)}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._readers[name].append(node)
        self._results = {value.name for value in graph.output}
        self._groups: list[_Group] = []
        self._maker: dict[str, _Group] = {}
        self._alias: dict[str, str] = {}  # a tensor that is another one by another name
        self._rounded: set[str] = set()  # tensors that come out of DequantizeLinear
        self._makers: dict[str, str] = {}  # and its name

    def kernels(self) -> list[Kernel]:
        for node in self._model.graph.node:
            self._place(node)
        found = [self._kernel(group) for group in self._groups]
        floats = [group for group, kernel in zip(self._groups, found, strict=True) if kernel.width != "int8"]
        widened = {name for group in floats for name in group.reads if name in self._rounded} | (
            self._results & self._rounded
        )
        return [*found, *(self._conversion(name) for name in sorted(widened))]

    def _conversion(self, name: str) -> Kernel:
        """Return the kernel that makes floats of a rounded tensor, for those that do not take it as it is."""
        size = self._elements(name)
        moved = int(size * 4 + self._bytes(name))
        return Kernel(
            f"{name}/floats", "convert", "fp32", 0, size, 0, size, size, 0, moved, nodes=(self._makers[name],)
        )

    def _place(self, node: onnx.NodeProto) -> None:
        inputs = [name for name in node.input if name and name not in self._constants]
        if not inputs or node.op_type == "Shape" or self._arithmetic_of_shapes(node):
            self._constants.update(node.output)
            if node.op_type == "DequantizeLinear":  # its weight is kept as the integers in front of it
                self._alias[node.output[0]] = node.input[0]
        elif node.op_type == "DequantizeLinear":
            self._rename(node, inputs[0])
            self._rounded.add(node.output[0])
            self._makers[node.output[0]] = node.name
        elif node.op_type in _RENAMES:
            self._rename(node, inputs[0])
            if inputs[0] in self._rounded:
                self._rounded.add(node.output[0])
                self._makers[node.output[0]] = self._makers[inputs[0]]
        elif node.op_type == "QuantizeLinear":
            self._round(node, inputs[0])
        else:
            group = self._fusing(node, inputs) if node.op_type in _ELEMENTWISE else None
            if group is None:
                group = _Group(node, [], [], "")
                self._groups.append(group)
            self._add(group, node, inputs)

    def _arithmetic_of_shapes(self, node: onnx.NodeProto) -> bool:
        """Return whether a node works on a handful of integers, which runtimes compute once for a fixed shape."""
        known = [name for name in node.output if name]
        return all(
            self._types.get(name) in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
            and math.prod(self._shapes.get(name, (99,))) <= 8
            for name in known
        ) and not any(name in self._results for name in known)

    def _rename(self, node: onnx.NodeProto, source: str) -> None:
        for name in node.output:
            self._alias[name] = self._source(source)

    def _source(self, name: str) -> str:
        return self._alias.get(name, name)

    def _round(self, node: onnx.NodeProto, source: str) -> None:
        """A tensor that a kernel made from rounded ones is rounded by it; any other is by a kernel of its own."""
        group = self._maker.get(self._source(source))
        if group is not None and group.output == self._source(source) and self._takes_integers(group):
            group.rounds = True
            group.names.append(node.name)
            self._alias[node.output[0]] = self._source(source)
            self._types[group.output] = self._types.get(node.output[0], TensorProto.UINT8)
            return
        alone = _Group(node, [], [], "")
        self._groups.append(alone)
        self._add(alone, node, [source])

    def _takes_integers(self, group: _Group) -> bool:
        taken = [name for name in group.first.input if name and name not in self._constants]
        return bool(taken) and all(name in self._rounded for name in taken)

    def _fusing(self, node: onnx.NodeProto, inputs: Sequence[str]) -> _Group | None:
        """Return the last kernel that makes an input, where it computes, nothing but such nodes read it, and sizes are equal."""
        for group in reversed(self._groups):
            tensor = next((name for name in inputs if self._source(name) == group.output), None)
            if tensor is None:
                continue
            alone = tensor not in self._results and all(
                reader.op_type in _ELEMENTWISE for reader in self._readers[tensor]
            )
            same = self._elements(node.output[0]) == self._elements(tensor)
            takes = MULTIPLIES.search(group.first.op_type) or group.first.op_type in (*_ELEMENTWISE, *_NORMALIZES)
            return group if takes and alone and same and not group.rounds else None
        return None

    def _add(self, group: _Group, node: onnx.NodeProto, inputs: Sequence[str]) -> None:
        inside = {name for member in group.nodes for name in member.output}
        group.nodes.append(node)
        group.reads += [name for name in inputs if self._source(name) not in inside]
        group.output = node.output[0]
        for name in node.output:
            self._maker[name] = group

    def _elements(self, name: str) -> int:
        try:
            return math.prod(self._shapes[name])
        except KeyError:
            node = next((one for one in self._model.graph.node if name in one.output), None)
            where = f"behind {node.name!r} ({node.op_type})" if node is not None else f"of {name!r}"
            raise InputError(
                f"the shape {where} is not known: export with fixed sizes (only the batch may be free)"
            ) from None

    def _bytes(self, name: str) -> float:
        return self._elements(name) * _SIZES.get(self._types.get(self._source(name), TensorProto.FLOAT), 4)

    def _kernel(self, group: _Group) -> Kernel:
        first = group.first
        macs = self._macs[first.name]
        if macs is None:
            raise InputError(f"the multiply-accumulates of {first.name!r} ({first.op_type}) are not known")
        reads = list(dict.fromkeys(group.reads))
        constants = [name for node in group.nodes for name in node.input if name in self._constants]
        weights = [name for name in dict.fromkeys(constants) if self._known(name) and self._elements(name) > 8]
        written = [name for name in group.nodes[-1].output if name]
        sizes = [self._elements(name) for name in written]
        attributes = {one.name: helper.get_attribute_value(one) for one in first.attribute}
        steps = group.nodes[1:] if first.op_type not in _ELEMENTWISE else group.nodes
        fused = [node for node in steps if node.op_type != "BatchNormalization" or node is first]
        exponentials = sum(self._elements(node.output[0]) for node in group.nodes if node.op_type in _EXPONENTIALS)
        spatial = self._shapes[written[0]][2:] if written else ()
        integer = self._takes_integers(group) and (group.rounds or first.op_type in ("Gemm", "MatMul"))
        half = self._types.get(first.output[0]) == TensorProto.FLOAT16
        return Kernel(
            name=first.name,
            operator="rescaled" if integer and first.op_type in _ELEMENTWISE else self._operator(first, attributes),
            width="int8" if integer else "fp16" if half else "fp32",
            macs=macs,
            operations=sum(self._elements(node.output[0]) for node in fused) + self._own_operations(first, attributes),
            exponentials=exponentials,
            reads=sum(map(self._elements, reads)),
            writes=sum(sizes),
            weights=sum(map(self._elements, weights)),
            bytes=int(sum(map(self._bytes, (*reads, *written, *weights)))),
            **self._channels(first, attributes, spatial),
            stride=max(attributes.get("strides", [1])),
            groups=attributes.get("group", 1),
            nodes=(
                *(node.name for node in group.nodes),
                *(name for node in group.nodes for name in node.output),
                *group.names,
            ),
        )

    def _known(self, name: str) -> bool:
        return name in self._shapes

    def _own_operations(self, first: onnx.NodeProto, attributes: dict[str, Any]) -> int:
        """Return the arithmetic of the kernel's first node, where it has no multiply-accumulates."""
        if first.op_type in _POOLS:
            window = math.prod(attributes.get("kernel_shape", [0]))
            return self._elements(first.output[0]) * window or self._elements(self._source(first.input[0]))
        return 4 * self._elements(first.output[0]) if first.op_type in _NORMALIZES else 0

    def _channels(self, first: onnx.NodeProto, attributes: dict[str, Any], spatial: tuple[int, ...]) -> dict[str, int]:
        output = self._shapes[first.output[0]]
        if "Conv" in first.op_type:
            weight = self._shapes[first.input[1]]
            groups = attributes.get("group", 1)
            straight = first.op_type == "Conv"
            inputs, outputs = (weight[1] * groups, weight[0]) if straight else (weight[0], weight[1] * groups)
            return dict(inputs=inputs, outputs=outputs, positions=math.prod(output[2:]), window=math.prod(weight[2:]))
        if first.op_type in ("Gemm", "MatMul", "MatMulInteger"):
            outputs = output[-1] if output else 1
            macs = self._macs[first.name] or 0
            rows = max(math.prod(output) // max(outputs, 1), 1)
            return dict(inputs=max(macs // max(outputs * rows, 1), 1), outputs=outputs, positions=rows)
        channels = output[1] if len(output) > 1 else 1
        window = math.prod(attributes.get("kernel_shape", [1]))
        return dict(inputs=channels, outputs=channels, positions=math.prod(spatial), window=window)

    def _operator(self, first: onnx.NodeProto, attributes: dict[str, Any]) -> Operator:
        kind = first.op_type
        if kind == "Conv":
            weight, groups = self._shapes[first.input[1]], attributes.get("group", 1)
            if groups > 1:
                return "depthwise" if weight[1] == 1 else "grouped"
            return "pointwise" if math.prod(weight[2:]) == 1 else "conv"
        if kind == "ConvTranspose":
            return "transposed"
        if kind in RECURRENT:
            return "recurrent"
        if MULTIPLIES.search(kind):
            return "dense" if first.input[1] in self._constants or self._is_weight(first.input[1]) else "product"
        groups_of_operators: tuple[tuple[Operator, tuple[str, ...]], ...] = (
            ("elementwise", _ELEMENTWISE),
            ("pool", _POOLS),
            ("normalize", _NORMALIZES),
            ("move", _MOVES),
            ("convert", ("QuantizeLinear",)),
        )
        return next((name for name, kinds in groups_of_operators if kind in kinds), "other")

    def _is_weight(self, name: str) -> bool:
        return self._source(name) in self._constants
