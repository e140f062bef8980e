"""A graph with chosen nodes in float16: constants converted, one Cast for each tensor that crosses a border.

Which inputs and outputs of a node may be float16 is read off ONNX's own description of its operator. ONNX Runtime's
converter has no such borders: two float32 nodes in a row are joined through float16, and two that read one tensor make a
graph that is not valid.
"""

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekd.models.onnx_graph import inferred_values, refill

_TYPES = {True: TensorProto.FLOAT16, False: TensorProto.FLOAT}


def half_inputs(node: onnx.NodeProto, opset: int) -> list[bool] | None:
    """Return which inputs of a node may be float16, or None where its float outputs would not follow them."""
    if node.domain not in ("", "ai.onnx") or any(attribute.HasField("g") for attribute in node.attribute):
        return None
    schema = onnx.defs.get_schema(node.op_type, opset)
    halves = {one.type_param_str for one in schema.type_constraints if "tensor(float16)" in one.allowed_type_strs}

    def type_of(formals: list[onnx.defs.OpSchema.FormalParameter], position: int) -> str:
        return formals[min(position, len(formals) - 1)].type_str  # the last one may stand for several

    inputs = [type_of(list(schema.inputs), position) for position in range(len(node.input))]
    outputs = [type_of(list(schema.outputs), position) for position in range(len(node.output))]
    following = {name for name in inputs if name in halves}
    if not following or any(name in halves and name not in following for name in outputs):
        return None
    return [name in halves for name in inputs]


def to_half(model: onnx.ModelProto, chosen: Collection[str]) -> onnx.ModelProto:
    """Return a graph with these nodes in float16; inputs and outputs of the graph stay float32.

    Args:
        model: with a name for every node.
        chosen: names of nodes for which `half_inputs` returns something.
    """
    made = onnx.ModelProto()
    made.CopyFrom(onnx.shape_inference.infer_shapes(model))
    opset = opset_of(made)
    constants = {one.name: one for one in made.graph.initializer if one.data_type == TensorProto.FLOAT}
    floats = float_tensors(made)
    halves: set[str] = set()
    given: dict[tuple[str, bool], str] = {}
    added: list[TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def as_type(name: str, half: bool) -> str:
        """Return a float tensor in the wanted type, cast where it has the other one."""
        if half == (name in halves):
            return name
        if (name, half) not in given:
            given[name, half] = f"{name}/{'half' if half else 'float'}"
            if name in constants:
                array = numpy_helper.to_array(constants[name]).astype(np.float16)
                added.append(numpy_helper.from_array(array, given[name, half]))
            else:
                nodes.append(
                    helper.make_node("Cast", [name], [given[name, half]], f"{given[name, half]}/cast", to=_TYPES[half])
                )
        return given[name, half]

    outputs = {value.name for value in made.graph.output}
    for node in made.graph.node:
        allowed = half_inputs(node, opset) if node.name in chosen else None
        for position, name in enumerate(node.input):
            if name in floats:
                node.input[position] = as_type(name, allowed is not None and allowed[position])
        nodes.append(node)
        if allowed is None:
            continue
        for position, name in enumerate(node.output):
            if name in floats and name in outputs:
                node.output[position] = f"{name}/half"
                halves.add(f"{name}/half")
                given[name, True] = f"{name}/half"
                nodes.append(helper.make_node("Cast", [f"{name}/half"], [name], f"{name}/cast", to=TensorProto.FLOAT))
            elif name in floats:
                halves.add(name)
    used = {name for node in nodes for name in node.input}
    tensors = [one for one in (*made.graph.initializer, *added) if one.name in used]
    refill(made.graph.node, nodes)
    refill(made.graph.initializer, tensors)
    del made.graph.value_info[:]
    return made


def to_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph with all its float16 in float32: the same values of constants, and no Cast between the two."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred_values(made)}
    kinds |= {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    outputs = {value.name for value in made.graph.output}
    same: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in made.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = same.get(name, name)
        target = next((one for one in node.attribute if node.op_type == "Cast" and one.name == "to"), None)
        if target is not None and target.i in _TYPES.values() and kinds.get(node.input[0]) in _TYPES.values():
            if node.output[0] not in outputs:
                same[node.output[0]] = node.input[0]
                continue
            node.op_type = "Identity"
            del node.attribute[:]
        elif target is not None and target.i == TensorProto.FLOAT16:
            target.i = TensorProto.FLOAT
        for attribute in node.attribute:
            if attribute.t.data_type == TensorProto.FLOAT16:
                attribute.t.CopyFrom(_widened(attribute.t))
        nodes.append(node)
    tensors = [_widened(one) if one.data_type == TensorProto.FLOAT16 else one for one in made.graph.initializer]
    refill(made.graph.node, nodes)
    refill(made.graph.initializer, tensors)
    del made.graph.value_info[:]
    for value in (*made.graph.input, *made.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return made


def _widened(tensor: TensorProto) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the float32 tensors of a graph whose shapes are inferred, constants among them."""
    graph = model.graph
    values = {
        value.name
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    return values | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
