"""How many weights of a file are zero, whatever form they have in it."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgekd.device.runtimes import open_session
from edgekd.models.onnx_graph import MULTIPLIES, RECURRENT


def zero_share(model: onnx.ModelProto) -> float | None:
    """Return the share of zeros among the weights of layers that multiply, None where there are none or one is packed.

    Rounded and packed weights are what the graph makes of them; those that an operator unpacks by itself, such as those
    of MatMulNBits, are not known.
    """
    names: list[str] = []
    for node in model.graph.node:
        if MULTIPLIES.search(node.op_type):
            names += node.input[1:3] if node.op_type in (*RECURRENT, "RNN") else node.input
    weights = [value for value in constant_values(model, dict.fromkeys(names)) if value.ndim > 1]
    if not weights or any(value.dtype.kind != "f" for value in weights):
        return None
    return float(sum((value == 0).sum() for value in weights) / sum(value.size for value in weights))


def constant_values(model: onnx.ModelProto, names: Iterable[str]) -> list[NDArray[Any]]:
    """Return the values of those tensors that only constants and ONNX's own operators make, as ONNX Runtime computes them."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constant = {"", *constants}
    nodes = []
    for node in model.graph.node:  # in their order, so that what a node reads comes before it
        made = node.op_type == "Constant" or (node.input and constant.issuperset(node.input))
        if made and node.domain in ("", "ai.onnx"):
            constant.update(node.output)
            nodes.append(node)
    wanted = [name for name in names if name and name in constant]
    given = [numpy_helper.to_array(constants[name]) for name in wanted if name in constants]
    outputs = [name for name in wanted if name not in constants]
    if not outputs:
        return given
    needed = set(outputs)
    for node in reversed(nodes):
        if needed & set(node.output):
            needed.update(node.input)
    graph = helper.make_graph(
        [node for node in nodes if needed & set(node.output)],
        "constants",
        [],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [tensor for name, tensor in constants.items() if name in needed],
    )
    inner = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    with tempfile.TemporaryDirectory(prefix="edgekd-") as folder:
        path = Path(folder) / "constants.onnx"
        onnx.save(inner, str(path))
        made = open_session("onnxruntime", path, 1).run({})
    return given + [made[name] for name in outputs]
