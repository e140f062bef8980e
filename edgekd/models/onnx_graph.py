"""Reading an ONNX graph: its signature, multiply-accumulates, parameters and operators."""

import contextlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from edgekd.device.runtimes.session import TensorInfo
from edgekd.errors import InputError
from edgekd.models.signature import Preprocessing, Signature, TensorSpec, make_signature, tensor_spec

LEVELS = "_levels_"  # in the names of the integer weights that training left, behind what they are rounded to

_DTYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.UINT8: "uint8",
    TensorProto.BOOL: "bool",
}
_WEIGHTS = (
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT4,
    TensorProto.UINT4,
)  # fmt: skip
RECURRENT = ("GRU", "LSTM")
MULTIPLIES = re.compile("Conv|MatMul|Gemm|GRU|LSTM|RNN|Attention|Einsum")


def graph_signature(model: onnx.ModelProto, signature: Signature | None = None) -> Signature:
    """Return the signature that the graph itself tells, with the rest (preprocessing, labels, task) of `signature`.

    Raises:
        InputError: an axis other than the batch has no fixed size, or a dtype or a name is not supported.
    """
    parts = dict(signature) if signature is not None else {}
    parts["inputs"] = tuple(_spec(value) for value in graph_inputs(model))
    parts["outputs"] = tuple(_spec(value) for value in model.graph.output)
    return make_signature("the ONNX graph", **parts)


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return what the graph is fed with: old files list the weights among the inputs too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def input_tensors(model: onnx.ModelProto) -> list[TensorInfo]:
    """Return the graph's inputs, whichever of their axes are free.

    Raises:
        InputError: one is a scalar, or of a dtype that is not supported.
    """
    return [_tensor(value) for value in graph_inputs(model)]


def _tensor(value: onnx.ValueInfoProto) -> TensorInfo:
    kind = value.type.tensor_type
    if kind.elem_type not in _DTYPES:
        known = TensorProto.DataType.Name(kind.elem_type).lower() if kind.elem_type else "no tensor"
        raise InputError(
            f"{value.name!r} is {known}; inputs and outputs of {', '.join(_DTYPES.values())} are supported"
        )
    shape = tuple(axis.dim_value or axis.dim_param or "?" for axis in kind.shape.dim)
    if not shape:
        raise InputError(
            f"{value.name!r} is a scalar or of unknown shape; inputs and outputs have a first axis, the batch"
        )
    return TensorInfo(value.name, shape, _DTYPES[kind.elem_type])


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    found = _tensor(value)
    sizes = [size for size in found.shape[1:] if isinstance(size, int)]
    if len(sizes) < len(found.shape) - 1:
        shape = list(found.shape)
        raise InputError(f"{value.name!r} has shape {shape}: only the first axis, the batch, may be free; export it so")
    return tensor_spec(value.name, sizes, found.dtype, f"{value.name!r} of the ONNX graph")


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own, that of its operator and first output where it has none."""
    names: set[str] = {""}
    for node in model.graph.node:
        if node.name in names:
            node.name = f"{node.op_type}:{node.output[0]}"
        names.add(node.name)


def named_nodes(model: onnx.ModelProto, wanted: Sequence[str], setting: str) -> set[str]:
    """Return the names of the nodes that are named, or whose operator is, or the module that they come from or one around it.

    Raises:
        InputError: a name is none of these; `setting` is where it stands.
    """
    operators = sorted({node.op_type for node in model.graph.node})
    modules = {node.name: node.name.rpartition("/")[0] for node in model.graph.node}
    around = {
        ".".join(path[:depth])
        for path in (one.split(".") for one in modules.values())
        for depth in range(1, len(path) + 1)
    }
    known = {*modules, *operators, *around} - {""}
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, sorted(known), 3)
            hint = f"nearest: {', '.join(near)}" if near else f"its operators are {', '.join(operators)}"
            raise InputError(f"{setting}: no node, module or operator {name!r}; {hint}")
    return {
        node.name
        for node in model.graph.node
        if node.name in wanted
        or node.op_type in wanted
        or any(f"{modules[node.name]}.".startswith(f"{name}.") for name in wanted)
    }


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """Return the batch size that the graph, or an input of it, is fixed to, or None where it is free."""
    axes = [axis for value in graph_inputs(model) for axis in value.type.tensor_type.shape.dim[:1]]
    return next((axis.dim_value for axis in axes if axis.dim_value > 0), None)


def count_parameters(model: onnx.ModelProto) -> int:
    """Return the number of weights: the elements of float and integer initializers with more than one element.

    Of those packed in bytes it is the number of what they hold. Scales and zero points in front of DequantizeLinear are none.
    """
    grids = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.input[1:]}
    held = [
        tensor for tensor in model.graph.initializer if LEVELS not in tensor.name or tensor.name.endswith("_levels")
    ]
    packed = [tensor for tensor in model.graph.initializer if LEVELS in tensor.name and tensor.name.endswith("_shape")]
    sizes = [math.prod(one.dims) for one in held if one.data_type in _WEIGHTS and one.name not in grids]
    sizes += [int(np.prod(numpy_helper.to_array(tensor))) for tensor in packed]
    return sum(size for size in sizes if size > 1)


def count_macs(path: Path) -> int | None:
    """Return the multiply-accumulates of one sample: Conv, ConvTranspose, Gemm, MatMul, GRU and LSTM.

    None where a node multiplies and its shapes are not known, or it is of a kind that is not counted.
    """
    counts = [macs for _, macs in node_macs(onnx.load(str(path)))]
    known = [macs for macs in counts if macs is not None]
    return sum(known) if len(known) == len(counts) else None


def node_macs(
    model: onnx.ModelProto, batch: int = 1, sizes: Mapping[str, int] | None = None
) -> list[tuple[onnx.NodeProto, int | None]]:
    """Return the nodes of a graph with their multiply-accumulates for one batch, None where they are not known.

    `sizes` are the batches of inputs that have another one. Shapes come from ONNX's shape inference, which knows nothing behind an operator that is not ONNX's own.
    """
    fixed = at_batch(model, batch, sizes)
    shapes: dict[str, list[int]] = {}
    for value in inferred_values(fixed):
        axes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.HasField("shape") and all(size > 0 for size in axes):
            shapes[value.name] = axes
    shapes |= {tensor.name: list(tensor.dims) for tensor in fixed.graph.initializer}
    found: list[tuple[onnx.NodeProto, int | None]] = []
    for node in fixed.graph.node:
        try:
            found.append((node, _node_macs(node, shapes)))
        except (KeyError, IndexError, ValueError):  # of a shape that is not known, or no shape for such a node
            found.append((node, None))
    return found


def _node_macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int | None:
    if not MULTIPLIES.search(node.op_type):
        return 0
    if node.op_type == "Conv":
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[1]][1 if transposed else 0]
    if node.op_type in ("MatMul", "MatMulInteger"):  # the weight's shape is known more often than the activation's
        return math.prod(shapes[node.output[0]]) * shapes[node.input[1]][-2 if len(shapes[node.input[1]]) > 1 else 0]
    if node.op_type in RECURRENT:
        steps, batch, _ = shapes[node.input[0]]
        return steps * batch * (math.prod(shapes[node.input[1]]) + math.prod(shapes[node.input[2]]))
    return None


def inferred_values(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs, the inner tensors and the outputs, with the types and shapes that ONNX can infer."""
    inferred = model
    with contextlib.suppress(shape_inference.InferenceError):  # shapes that contradict each other are not known
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    return [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]


def refill(field: Any, content: Iterable[Any]) -> None:
    """Put messages (nodes, tensors ...) in place of what a repeated field of a graph holds, which may be among them."""
    copies = [type(one).FromString(one.SerializeToString()) for one in content]
    del field[:]
    field.extend(copies)


def external_files(path: Path) -> list[Path]:
    """Return the files beside a model that hold its external weights, sorted."""
    model = onnx.load(str(path), load_external_data=False)
    names = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sorted(path.parent / name for name in names)


def at_batch(model: onnx.ModelProto, batch: int, sizes: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Return a copy of the graph with its batch axis fixed, of some inputs to other `sizes`, inner shapes forgotten."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for value in (*graph_inputs(fixed), *fixed.graph.output):
        axes = value.type.tensor_type.shape.dim
        if len(axes):
            axes[0].Clear()
            axes[0].dim_value = (sizes or {}).get(value.name, batch)
    return fixed


def inside_preprocessing(signature: Signature) -> Preprocessing:
    """Return the preprocessing that can go into the graph.

    Raises:
        InputError: the network has several inputs, or no preprocessing is known.
    """
    if signature.preprocessing is None or len(signature.inputs) != 1:
        raise InputError('export.input = "uint8" needs one image input and its preprocessing (model.toml)')
    return signature.preprocessing


def preprocess_inside(model: onnx.ModelProto, signature: Signature) -> onnx.ModelProto:
    """Return the graph taking raw bytes: Cast, Mul and Add in front of its one image input do the preprocessing.

    Raises:
        InputError: the network has several inputs, or no preprocessing is known.
    """
    preprocessing = inside_preprocessing(signature)
    std, mean = np.array(preprocessing.std), np.array(preprocessing.mean)
    name, rank = signature.inputs[0].name, len(signature.inputs[0].shape)
    axes = (1, -1, *([1] * (rank - 2)))
    factor = (preprocessing.scale / std).astype(np.float32).reshape(axes)
    offset = (-mean / std).astype(np.float32).reshape(axes)
    inside = onnx.ModelProto()
    inside.CopyFrom(model)
    for node in inside.graph.node:
        for position, wanted in enumerate(node.input):
            if wanted == name:
                node.input[position] = f"{name}_preprocessed"
    value = next(value for value in inside.graph.input if value.name == name)
    value.type.tensor_type.elem_type = TensorProto.UINT8
    nodes = [
        helper.make_node("Cast", [name], [f"{name}_float"], f"{name}_cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_float", f"{name}_factor"], [f"{name}_scaled"], f"{name}_scale"),
        helper.make_node("Add", [f"{name}_scaled", f"{name}_offset"], [f"{name}_preprocessed"], f"{name}_shift"),
    ]
    rest = list(inside.graph.node)
    del inside.graph.node[:]
    inside.graph.node.extend([*nodes, *rest])
    inside.graph.initializer.extend(
        [numpy_helper.from_array(factor, f"{name}_factor"), numpy_helper.from_array(offset, f"{name}_offset")]
    )
    return inside
