"""Placement: which of the operators that need no weights run in integers.

A convolution takes and gives integers, a linear layer takes integers and gives either, LayerNorm or GELU take and give
floats. An operator between them (Add, Concat, Transpose ...) may do both, and where a tensor is needed in the other form it
is converted, at a cost that grows with its size. The cheapest placement is a minimum cut between what is float and what
is integer: an operator that is on the side of floats stays in float, and of equal cuts the one with fewer integers is
taken. Convolutional networks then run in integers from end to end, of transformers the linear layers alone do.

Source: Ford and Fulkerson, Maximal Flow through a Network, 1956; the graph is an edgekd variant.
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import networkx
import onnx

from edgekd.models.onnx_graph import MULTIPLIES, at_batch, inferred_values
from edgekd.models.qdq_graph import ACTIVATIONS

_FLOAT, _INTEGER = "/float", "/integer"  # the two sides
_FREE = ("Gemm", "MatMul")  # whose integer kernels give floats as fast


@dataclass(frozen=True)
class Placement:
    """The nodes that run in integers, and the tensors that those among them which multiply leave in float."""

    integer: frozenset[str]
    float_outputs: frozenset[str]


def place(model: onnx.ModelProto, able: Collection[str]) -> Placement:
    """Return the cheapest placement.

    Args:
        model: a float graph whose nodes have names.
        able: the nodes that the runtime has integer kernels for.
    """
    forms = _Forms(model, able)
    readers: dict[str, list[str]] = {}  # of a tensor, the vertices that say in which form it is read
    for value in model.graph.output:
        readers.setdefault(value.name, []).append(_FLOAT)
    for node in model.graph.node:
        for name in node.input:
            if node.op_type != "Shape":
                readers.setdefault(name, []).append(forms.read[node.name])
    graph = networkx.DiGraph()
    graph.add_nodes_from((_FLOAT, _INTEGER))
    for name, size in _sizes(model).items():
        _convert(graph, name, forms.made.get(name, _FLOAT), readers.get(name, []), size)
    integer = networkx.minimum_cut(graph, _FLOAT, _INTEGER)[1][1]
    chosen = [node for node in model.graph.node if node.name in able and forms.read[node.name] in integer]
    left = {name for node in chosen for name in node.output if forms.made[name] not in integer}
    return Placement(frozenset(node.name for node in chosen), frozenset(left))


class _Forms:
    """In which form nodes read and make tensors: a vertex of the graph that is cut, one of the two sides or a free one."""

    def __init__(self, model: onnx.ModelProto, able: Collection[str]) -> None:
        self.read: dict[str, str] = {}  # by node
        self.made: dict[str, str] = {}  # by tensor
        uses = Counter(name for node in model.graph.node for name in node.input)
        makers = {name: node for node in model.graph.node for name in node.output}
        for node in model.graph.node:
            multiplies = node.name in able and MULTIPLIES.search(node.op_type)
            maker = makers.get(node.input[0]) if node.input else None
            if node.name not in able:
                made = _FLOAT
            elif multiplies:
                made = f"{node.name}/output" if node.op_type in _FREE else _INTEGER
            elif node.op_type in ACTIVATIONS and maker is not None and uses[node.input[0]] == 1:
                made = self.made[node.input[0]]  # one kernel
            else:
                made = node.name
            self.read[node.name] = _INTEGER if multiplies else made
            self.made |= dict.fromkeys(node.output, made)


def _convert(graph: networkx.DiGraph, name: str, made: str, read: Sequence[str], size: int) -> None:
    """Add what it costs to convert a tensor: once where any of its readers wants the other form."""
    others = {one for one in read if one != made}
    if not others:
        return
    graph.add_edge(made, f"{name}/quantize", capacity=size)
    graph.add_edge(f"{name}/dequantize", made, capacity=size)
    for one in others:  # edges without a capacity are never cut
        graph.add_edge(f"{name}/quantize", one)
        graph.add_edge(one, f"{name}/dequantize")


def _sizes(model: onnx.ModelProto) -> dict[str, int]:
    """Return how many values every float tensor has for one sample; axes that are not known count as one value."""
    return {
        value.name: math.prod(max(axis.dim_value, 1) for axis in value.type.tensor_type.shape.dim)
        for value in inferred_values(at_batch(model, 1))
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
