r"""Static inputs: what depends only on inputs that are the same for all samples of a batch is computed once.

```
u (1, du) ----\                          u (1, du) -- MatMul Wu --\
               Concat -- MatMul W --                               Add --
i (N, di) ----/                          i (N, di) -- MatMul Wi --/
```
Source: MaRI, arXiv 2602.23105. Every value is coloured: constant, once or many; a node with an input of many makes many.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper, shape_inference

from edgekd.errors import InputError
from edgekd.models.onnx_graph import MULTIPLIES, graph_inputs, name_nodes, refill

# Operators that repeat a batch of one along the other's by ONNX's own rules of broadcasting.
_BROADCAST = frozenset({
    "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Mean", "Sum", "PRelu", "Where", "And", "Or", "Xor", "Equal", "Less",
    "LessOrEqual", "Greater", "GreaterOrEqual", "Mod",
})  # fmt: skip
_BATCH_SIZE = "hoisting_batch"


@dataclass(frozen=True)
class Split:
    """A layer that was cut in two: its node, and how many features of its input are computed once, and for every sample."""

    node: str
    once: int
    many: int

    def ratio(self, n: int) -> float:
        """Return how many times fewer multiplications it needs for n samples: n (du + di) / (du + n di)."""
        return n * (self.once + self.many) / (self.once + n * self.many)


@dataclass(frozen=True)
class Hoisted:
    """The rewritten graph, the layers that were cut, and those that are now computed once as a whole."""

    model: onnx.ModelProto
    splits: tuple[Split, ...]
    whole: tuple[str, ...]


@dataclass
class _Work:
    """What is known while the nodes are gone through in order."""

    ranks: dict[str, int]
    sizes: dict[str, list[int]]  # after the batch axis; 0 where it is not known
    weights: dict[str, Any]
    colours: dict[str, str]
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    segments: dict[str, tuple[int, list[str]]] = field(default_factory=dict)  # of mixed concatenations: axis, parts
    expanded: dict[str, str] = field(default_factory=dict)
    splits: list[Split] = field(default_factory=list)

    def emit(self, kind: str, inputs: Sequence[str], output: str, colour: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], f"{kind}:{output}", **attributes))
        self.colours[output] = colour
        return output

    def constant(self, name: str, values: Any) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def repeated(self, name: str) -> str:
        """Return a value of once, repeated for all samples."""
        if name not in self.expanded:
            if name not in self.ranks or self.ranks[name] < 1:
                raise InputError(f"hoist-static-inputs: the shape of {name!r} is not known, so it cannot be repeated")
            ones = self.constant(f"{name}_ones", np.ones(self.ranks[name] - 1, np.int64))
            shape = self.emit("Concat", [_BATCH_SIZE, ones], f"{name}_shape", "many", axis=0)
            self.expanded[name] = self.emit("Expand", [name, shape], f"{name}_repeated", "many")
        return self.expanded[name]


def hoist(model: onnx.ModelProto, once: Sequence[str]) -> Hoisted:
    """Return the graph with its inputs `once` of batch 1, and whatever depends on them alone computed once.

    The other inputs keep their free batch. Features of both kinds are brought together before a layer is cut, so that each part
    stays contiguous.

    Raises:
        InputError: there is no such input, none is left for every sample, or the graph has control flow or a fixed batch.
    """
    graph = _copied(model)
    inputs = graph_inputs(graph)
    _check(graph, inputs, once)
    work = _begun(graph, once)
    varying = next(value.name for value in inputs if value.name not in once)
    work.emit("Shape", [varying], _BATCH_SIZE, "many", start=0, end=1)
    for node in graph.graph.node:
        _take(node, work)
    _repeat_outputs(graph, work)
    for value in inputs:
        if value.name in once:
            axis = value.type.tensor_type.shape.dim[0]
            axis.Clear()
            axis.dim_value = 1
    _put(graph, _needed(work.nodes, [value.name for value in graph.graph.output]), work.initializers)
    whole = [node.name for node in graph.graph.node if work.colours.get(node.output[0]) == "once"]
    cut = {f"{split.node}_once" for split in work.splits}
    multiplied = [
        node.name
        for node in graph.graph.node
        if node.name in whole and MULTIPLIES.search(node.op_type) and node.output[0] not in cut
    ]
    return Hoisted(graph, tuple(work.splits), tuple(multiplied))


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    name_nodes(graph)
    return graph


def _check(graph: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto], once: Sequence[str]) -> None:
    names = [value.name for value in inputs]
    unknown = [name for name in once if name not in names]
    if unknown:
        raise InputError(f"hoist-static-inputs: once: no input {', '.join(unknown)}; the inputs are {', '.join(names)}")
    if len(set(once)) == len(names):
        raise InputError("hoist-static-inputs: once names all inputs; one at least differs from sample to sample")
    if any(attribute.HasField("g") or attribute.graphs for node in graph.graph.node for attribute in node.attribute):
        raise InputError("hoist-static-inputs: the graph has control flow (If, Loop or Scan), which is not gone into")
    fixed = [value.name for value in inputs if value.type.tensor_type.shape.dim[0].HasField("dim_value")]
    if fixed:
        raise InputError(
            f"hoist-static-inputs: the batch of {', '.join(fixed)} is fixed; export the network with a free batch axis"
        )


def _begun(graph: onnx.ModelProto, once: Sequence[str]) -> _Work:
    inferred = shape_inference.infer_shapes(graph, data_prop=True)
    ranks: dict[str, int] = {}
    sizes: dict[str, list[int]] = {}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        if value.type.tensor_type.HasField("shape"):
            axes = value.type.tensor_type.shape.dim
            ranks[value.name], sizes[value.name] = len(axes), [axis.dim_value for axis in axes]
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    colours = dict.fromkeys(weights, "constant")
    colours |= {value.name: "once" if value.name in once else "many" for value in graph_inputs(graph)}
    return _Work(ranks, sizes, weights, colours)


def _take(node: NodeProto, work: _Work) -> None:
    """Write a node, cut in two or with repeated inputs where it mixes what is there once with what is there many times."""
    given = [name for name in node.input if name]
    colours = {work.colours.get(name, "constant") for name in given}
    if node.op_type in ("Shape", "Size") and "once" in colours:  # asks for the batch
        _keep(_with_inputs(node, {name: work.repeated(name) for name in given}), work, "many")
    elif _is_cuttable(node, work):
        _cut(node, work)
    elif not {"once", "many"} <= colours:
        _keep(node, work, next((colour for colour in ("many", "once") if colour in colours), "constant"))
    elif node.op_type in _BROADCAST and len({work.ranks.get(name) for name in _varying(given, work)}) == 1:
        _keep(node, work, "many")
    else:
        axis = _axis(node, work) if node.op_type == "Concat" else 0
        if axis and all(work.colours.get(name) in ("once", "many") for name in given):
            parts = [one for name in given for one in _parts(name, axis, work)]
            work.segments[node.output[0]] = axis, parts
        once = {name: work.repeated(name) for name in given if work.colours.get(name) == "once"}
        _keep(_with_inputs(node, once), work, "many")


def _keep(node: NodeProto, work: _Work, colour: str) -> None:
    work.nodes.append(node)
    work.colours |= dict.fromkeys(node.output, colour)


def _varying(names: Sequence[str], work: _Work) -> list[str]:
    return [name for name in names if work.colours.get(name) in ("once", "many")]


def _parts(name: str, axis: int, work: _Work) -> list[str]:
    """Return the parts of a concatenation along this axis, or the value itself."""
    inner = work.segments.get(name)
    return inner[1] if inner is not None and inner[0] == axis else [name]


def _axis(node: NodeProto, work: _Work) -> int:
    """Return the axis of a concatenation, counted from the front; 0 where it is not known."""
    axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
    return int(axis) if axis >= 0 else int(axis) + work.ranks.get(node.output[0], -axis)


def _is_cuttable(node: NodeProto, work: _Work) -> bool:
    """Return whether a layer with constant weights reads a mixed concatenation along the axis that it sums over."""
    if node.op_type not in ("MatMul", "Gemm", "Conv") or node.input[0] not in work.segments:
        return False
    axis, parts = work.segments[node.input[0]]
    if any(name and name not in work.weights for name in node.input[1:]):
        return False
    if not all(work.sizes.get(part, [0])[axis] for part in parts):
        return False
    if node.op_type == "MatMul":
        return bool(work.weights[node.input[1]].ndim == 2) and axis == work.ranks.get(node.input[0], 0) - 1
    if node.op_type == "Conv":
        return axis == 1 and _attribute(node, "group", 1) == 1
    bias = work.weights[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(1)
    return axis == 1 and not _attribute(node, "transA", 0) and (bias.ndim < 2 or bias.shape[0] == 1)


def _cut(node: NodeProto, work: _Work) -> None:
    """Write a layer as two, one for the features that are there once, and the sum of both."""
    axis, parts = work.segments[node.input[0]]
    weight = work.weights[node.input[1]]
    weight_axis = 1 if node.op_type == "Conv" or _attribute(node, "transB", 0) else 0
    starts = np.cumsum([0, *(work.sizes[part][axis] for part in parts)])
    made, counts = {}, {}
    for colour in ("once", "many"):
        chosen = [number for number, part in enumerate(parts) if work.colours[part] == colour]
        rows = np.concatenate([np.arange(starts[number], starts[number + 1]) for number in chosen])
        counts[colour] = len(rows)
        names = [parts[number] for number in chosen]
        stem = f"{node.output[0]}_{colour}"
        read = names[0] if len(names) == 1 else work.emit("Concat", names, f"{stem}_input", colour, axis=axis)
        inputs = [read, work.constant(f"{stem}_weight", weight.take(rows, weight_axis))]
        layer = NodeProto()
        layer.CopyFrom(node)
        layer.name = f"{node.name}_{colour}"
        del layer.input[:], layer.output[:]
        layer.input.extend(inputs + (list(node.input[2:]) if colour == "once" else []))
        layer.output.append(stem)
        _keep(layer, work, colour)
        made[colour] = stem
    work.emit("Add", [made["many"], made["once"]], node.output[0], "many")
    work.splits.append(Split(node.output[0], counts["once"], counts["many"]))


def _repeat_outputs(graph: onnx.ModelProto, work: _Work) -> None:
    """Repeat outputs that do not depend on the samples, so that all have one batch."""
    for value in graph.graph.output:
        if work.colours.get(value.name) != "once":
            continue
        inner = f"{value.name}_once"
        for node in work.nodes:
            for names in (node.input, node.output):
                for position, name in enumerate(names):
                    if name == value.name:
                        names[position] = inner
        work.ranks[inner], work.colours[inner] = work.ranks.get(value.name, 0), "once"
        work.nodes.append(helper.make_node("Identity", [work.repeated(inner)], [value.name], f"Identity:{value.name}"))


def _with_inputs(node: NodeProto, replaced: dict[str, str]) -> NodeProto:
    changed = NodeProto()
    changed.CopyFrom(node)
    for position, name in enumerate(node.input):
        changed.input[position] = replaced.get(name, name)
    return changed


def _needed(nodes: Sequence[NodeProto], outputs: Sequence[str]) -> list[NodeProto]:
    """Return the nodes that the outputs need, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _put(graph: onnx.ModelProto, nodes: Sequence[NodeProto], further: Sequence[onnx.TensorProto]) -> None:
    """Put nodes and their weights into a graph."""
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in (*graph.graph.initializer, *further) if tensor.name in used]
    refill(graph.graph.node, nodes)
    refill(graph.graph.initializer, weights)
    del graph.graph.value_info[:]


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)
