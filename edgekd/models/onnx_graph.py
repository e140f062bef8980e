"""Reading an ONNX graph: its signature, multiply-accumulates, parameters, operators and precision."""

import contextlib
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

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


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    if kind.elem_type not in _DTYPES:
        known = TensorProto.DataType.Name(kind.elem_type).lower() if kind.elem_type else "no tensor"
        raise InputError(
            f"{value.name!r} is {known}; inputs and outputs of {', '.join(_DTYPES.values())} are supported"
        )
    sizes = [axis.dim_value if axis.HasField("dim_value") else 0 for axis in kind.shape.dim]
    if not sizes or any(size < 1 for size in sizes[1:]):
        shape = [axis.dim_value or axis.dim_param or "?" for axis in kind.shape.dim]
        raise InputError(f"{value.name!r} has shape {shape}: only the first axis, the batch, may be free; export it so")
    return tensor_spec(value.name, sizes[1:], _DTYPES[kind.elem_type], f"{value.name!r} of the ONNX graph")


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own, that of its operator and first output where it has none."""
    names: set[str] = {""}
    for node in model.graph.node:
        if node.name in names:
            node.name = f"{node.op_type}:{node.output[0]}"
        names.add(node.name)


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """Return the batch size that the graph is fixed to, or None where it is free."""
    axes = [axis for value in graph_inputs(model)[:1] for axis in value.type.tensor_type.shape.dim[:1]]
    return axes[0].dim_value if axes and axes[0].dim_value > 0 else None


def precision(model: onnx.ModelProto) -> str:
    """Return `int8` for a graph in Q/DQ form, `int4-weights` and the like for packed weights, else `fp32` or `fp16`."""
    operators = Counter(node.op_type for node in model.graph.node)
    if operators["QuantizeLinear"] or operators["QLinearConv"] or operators["QLinearMatMul"]:
        return "int8"
    for tensor in model.graph.initializer:
        if LEVELS in tensor.name:
            return f"{tensor.name.partition(LEVELS)[0]}-weights"
    halves = sum(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return "fp16" if halves > len(model.graph.initializer) / 2 else "fp32"


def count_parameters(model: onnx.ModelProto) -> int:
    """Return the number of weights: the elements of floating-point and 8-bit initializers with more than one element.

    Of those packed in bytes it is the number of what they hold, scales aside.
    """
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32)
    held = [
        tensor for tensor in model.graph.initializer if LEVELS not in tensor.name or tensor.name.endswith("_levels")
    ]
    packed = [tensor for tensor in model.graph.initializer if LEVELS in tensor.name and tensor.name.endswith("_shape")]
    sizes = [math.prod(tensor.dims) for tensor in held if tensor.data_type in kinds]
    sizes += [int(np.prod(numpy_helper.to_array(tensor))) for tensor in packed]
    return sum(size for size in sizes if size > 1)


def count_macs(path: Path) -> int | None:
    """Return the multiply-accumulates of one sample: Conv, ConvTranspose, Gemm, MatMul, GRU and LSTM.

    None where a node multiplies and its shapes are not known, or it is of a kind that is not counted.
    """
    counts = [macs for _, macs in node_macs(onnx.load(str(path)))]
    known = [macs for macs in counts if macs is not None]
    return sum(known) if len(known) == len(counts) else None


def node_macs(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, int | None]]:
    """Return the nodes of a graph with their multiply-accumulates for one sample, None where they are not known.

    Shapes come from ONNX's shape inference at batch 1, which knows nothing behind an operator that is not ONNX's own.
    """
    inferred = at_batch(model, 1)
    with contextlib.suppress(shape_inference.InferenceError):  # shapes that contradict each other are not known
        inferred = shape_inference.infer_shapes(inferred, data_prop=True)
    shapes: dict[str, list[int]] = {}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.HasField("shape") and all(size > 0 for size in sizes):
            shapes[value.name] = sizes
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.graph.initializer}
    found: list[tuple[onnx.NodeProto, int | None]] = []
    for node in inferred.graph.node:
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
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]
    if node.op_type == "MatMul":
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if node.op_type in ("GRU", "LSTM"):
        steps, batch, _ = shapes[node.input[0]]
        return steps * batch * (math.prod(shapes[node.input[1]]) + math.prod(shapes[node.input[2]]))
    return None


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


def at_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """Return a copy of the graph with its batch axis fixed, inner shapes forgotten."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for value in (*graph_inputs(fixed), *fixed.graph.output):
        axes = value.type.tensor_type.shape.dim
        if len(axes):
            axes[0].Clear()
            axes[0].dim_value = batch
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
