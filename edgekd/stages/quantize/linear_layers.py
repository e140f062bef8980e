"""Linear layers over several axes, MatMul and Add, as Gemm: its integer kernel adds the bias where it multiplies."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekd.models.onnx_graph import inferred_values, refill


@dataclass(frozen=True)
class _Linear:
    """A MatMul by a constant matrix and the addition of its bias; `between` are the axes between the first and the last."""

    product: onnx.NodeProto
    inputs: int
    outputs: int
    bias: str
    output: str
    between: tuple[int, ...]


def as_gemm(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """Return the graph with every linear layer as a Gemm, named like its MatMul, between two Reshapes.

    Left as they are: the nodes named in `kept`, layers without a bias, and those whose inputs have more than one free axis.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    layers = {one.product.name: one for one in _linear_layers(changed) if one.product.name not in kept}
    additions = {one.output for one in layers.values()}
    nodes: list[onnx.NodeProto] = []
    sizes: dict[str, onnx.TensorProto] = {}
    flat: set[str] = set()

    def reshape(source: str, output: str, wanted: tuple[int, ...]) -> None:
        name = f"{output}/sizes"
        sizes[name] = numpy_helper.from_array(np.array(wanted, np.int64), name)
        nodes.append(helper.make_node("Reshape", [source, name], [output], f"{output}/reshape"))

    for node in changed.graph.node:
        layer = layers.get(node.name)
        if layer is None:
            if node.output[0] not in additions:
                nodes.append(node)
            continue
        source, output = f"{node.input[0]}/flat", f"{layer.output}/flat"
        if source not in flat:
            reshape(node.input[0], source, (-1, layer.inputs))
            flat.add(source)
        nodes.append(helper.make_node("Gemm", [source, node.input[1], layer.bias], [output], node.name))
        reshape(output, layer.output, (-1, *layer.between, layer.outputs))
    refill(changed.graph.node, nodes)
    del changed.graph.value_info[:]
    changed.graph.initializer.extend(sizes.values())
    return changed


def _linear_layers(model: onnx.ModelProto) -> list[_Linear]:
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    wanted = {value.name for value in model.graph.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    shapes = {
        value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in inferred_values(model)
    }
    found = []
    for node in model.graph.node:
        matrix = constants.get(node.input[1], ()) if node.op_type == "MatMul" else ()
        behind = readers.get(node.output[0], [])
        if len(matrix) != 2 or len(behind) != 1 or node.output[0] in wanted:
            continue
        (addition,) = behind
        bias = next((name for name in addition.input if constants.get(name) == matrix[1:]), None)
        between = shapes.get(node.input[0], ())[1:-1]
        if addition.op_type == "Add" and bias is not None and between and all(between):
            found.append(_Linear(node, *matrix, bias, addition.output[0], between))
    return found
