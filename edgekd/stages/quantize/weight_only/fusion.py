"""Activation functions behind weights that are rounded alone, in a form that ONNX Runtime does not fuse with the layer.

ONNX Runtime 1.31 takes a Relu or Clip behind a Gemm for part of it, does not run the Gemm on the packed weights then, and
makes floats of them at every call. Max and Min compute the same and are left alone.
"""

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekd.models.onnx_graph import refill
from edgekd.models.qdq_graph import ACTIVATIONS

_BOUNDS = (("Max", 1), ("Min", 2))  # with the place of the bound among Clip's inputs


def without_fusion(model: onnx.ModelProto, layers: Collection[str]) -> onnx.ModelProto:
    """Return the graph with every Relu and Clip behind the layers, or behind their bias, as Max and Min."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    makers = {name: node for node in model.graph.node for name in node.output}

    def layer_of(name: str) -> str | None:
        maker = makers.get(name)
        if maker is not None and maker.op_type == "Add":
            maker = next((makers[one] for one in maker.input if one in makers), None)
        return maker.name if maker is not None else None

    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type in ACTIVATIONS and layer_of(node.input[0]) in layers:
            nodes += _bounded(node, changed)
        else:
            nodes.append(node)
    refill(changed.graph.node, nodes)
    return changed


def _bounded(node: onnx.NodeProto, model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return Max, Min, or both, that compute what a Relu or Clip does."""
    given = [*node.input, "", ""]
    if node.op_type == "Relu":
        given[1] = f"{node.name}/zero"
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0), given[1]))
    wanted = [(kind, given[place]) for kind, place in _BOUNDS if given[place]]
    if not wanted:
        return [node]
    steps = [node.input[0], *(f"{node.output[0]}/{kind}" for kind, _ in wanted[:-1]), node.output[0]]
    return [
        helper.make_node(kind, [steps[number], bound], [steps[number + 1]], f"{node.name}/{kind}")
        for number, (kind, bound) in enumerate(wanted)
    ]
