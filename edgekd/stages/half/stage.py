"""The half stage."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.models.onnx_graph import name_nodes, named_nodes
from edgekd.models.precision import Precision
from edgekd.recipe import StageSettings
from edgekd.stages.half.conversion import half_inputs, opset_of, to_half
from edgekd.stages.half.settings import HalfSettings
from edgekd.stages.quantize.executors.onnxruntime import OPERATORS
from edgekd.stages.quantize.float_file import write_float_file
from edgekd.stages.quantize.observation import Watched, first_pass
from edgekd.stages.quantize.preparation import prepare
from edgekd.stages.stage import Stage, check_runtime
from edgekd.state import ModelState, OnnxForm

LARGEST = float(np.finfo(np.float16).max)
HEADROOM = 2  # other data go beyond what the calibration part shows
_LEAST = float(np.finfo(np.float16).smallest_subnormal) / 2  # below it, float16 has 0
_GRIDS = ("QuantizeLinear", "DequantizeLinear")
_AFTER: dict[Precision, Precision] = {"fp32": "fp16", "int8": "int8+fp16"}


def run(state: ModelState, settings: StageSettings, context: Context) -> ModelState:
    """Convert what float16 can hold.

    Raises:
        InputError: nothing can be converted, `keep_float` names nothing in the network, or weights are NaN.
        StageError: the network cannot be written.
    """
    assert isinstance(settings, HalfSettings)
    folder, precision = context.workdir, state.form.precision
    write_float_file(state, context, folder / "float.onnx")
    if precision == "fp32":
        graph = prepare(folder / "float.onnx", folder / "prepared.onnx", context.log)
    else:  # its pairs of Q/DQ stay where the quantizer put them
        graph = onnx.load(str(folder / "float.onnx"))
        name_nodes(graph)
    kept = dict.fromkeys(named_nodes(graph, settings.keep_float, "keep_float"), "keep_float")
    kept |= dict.fromkeys(integer_nodes(graph, _operators(context)), "int8") | _out_of_range(graph, context)
    opset = opset_of(graph)
    kept |= {node.name: "no float16" for node in graph.graph.node if half_inputs(node, opset) is None}
    chosen = [node.name for node in graph.graph.node if node.name not in kept]
    converted = to_half(graph, chosen)
    if not any(tensor.data_type == TensorProto.FLOAT16 for tensor in converted.graph.initializer):
        raise InputError("there are no float weights that could go to float16; leave half out")
    for reason in ("weights out of range", "activations out of range"):
        names = [name for name, why in kept.items() if why == reason]
        if names:
            context.log(f"half: {', '.join(names)} in float32: {reason} of float16")
    converted.ir_version = graph.ir_version
    path = folder / "model.onnx"
    onnx.save(converted, str(path))
    notes = {
        "nodes": len(chosen),
        "kept_float": {name: why for name, why in kept.items() if why not in ("int8", "no float16")},
    }
    return state.after("half", OnnxForm(path, _AFTER[precision]), notes)


def integer_nodes(model: onnx.ModelProto, operators: Collection[str]) -> set[str]:
    """Return the nodes of a graph in Q/DQ form that a runtime with these integer operators fuses with their pairs.

    They are the pairs, what reads a dequantized tensor, and what stands between that and a QuantizeLinear.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, set[str]] = {value.name: {"output"} for value in model.graph.output}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    found: set[str] = set()
    for node in model.graph.node:
        before = [makers[name] for name in node.input if name in makers]
        reads = any(one.op_type == "DequantizeLinear" for one in before)
        between = any(one.name in found for one in before) and readers.get(node.output[0]) == {"QuantizeLinear"}
        if node.op_type in _GRIDS or (node.op_type in operators and (reads or between)):
            found.add(node.name)
    return found


def _out_of_range(graph: onnx.ModelProto, context: Context) -> dict[str, str]:
    """Return the nodes with weights, or activations on the calibration part, that float16 has not.

    Raises:
        InputError: weights are NaN.
    """
    found: dict[str, str] = {}
    wrong: set[str] = set()
    for tensor in graph.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and not _fits(numpy_helper.to_array(tensor), tensor.name):
            wrong.add(tensor.name)
    found |= {node.name: "weights out of range" for node in graph.graph.node if wrong & set(node.input)}
    watched = Watched(graph, context.parts.calibration, context.workdir, context.threads, ())
    try:
        extremes, _ = first_pass(watched, [])
    finally:
        watched.path.unlink()
    large = {name for name, ends in extremes.items() if max(map(abs, ends)) * HEADROOM > LARGEST}
    for node in graph.graph.node:
        if large & {*node.input, *node.output}:
            found.setdefault(node.name, "activations out of range")
    return found


def _fits(array: NDArray[Any], name: str) -> bool:
    """Return whether float16 holds an array: nothing too large, and no single number that becomes 0."""
    if np.isnan(array).any():
        raise InputError(f"the weights {name} hold NaN; train the network again")
    size = np.abs(array[np.isfinite(array)])
    return bool((size <= LARGEST).all()) and not (array.size == 1 and 0 < size.max(initial=0) <= _LEAST)


def _operators(context: Context) -> Sequence[str]:
    scheme = context.runtime.quantization
    return scheme.operators or OPERATORS if scheme else OPERATORS


def _becomes(settings: StageSettings, precision: Precision) -> Precision:
    if precision not in _AFTER:
        raise InputError(f"the network is {precision} by then; half takes fp32, or int8 of quantize")
    return _AFTER[precision]


def _check(settings: StageSettings, state: ModelState, context: Context) -> None:
    """Refuse a runtime without float16, unless only the bytes count."""
    assert isinstance(settings, HalfSettings)
    if not settings.storage_only:
        try:
            check_runtime("fp16", context)
        except InputError as error:
            raise InputError(
                f"{error}; storage_only = true (--storage-only) writes it all the same: half the bytes, no faster"
            ) from error


def _depends_on(settings: StageSettings, context: Context) -> dict[str, object]:
    return {"data": True, "opset": context.runtime.opset, "operators": list(_operators(context))}


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, HalfSettings)
    count = len(context.parts.calibration)
    kept = f", {', '.join(settings.keep_float)} kept" if settings.keep_float else ""
    cast = ", computed in float32 there" if "fp16" not in context.runtime.precisions else ""
    return f"float16 for what is float32{kept}{cast}; ranges checked on {count} calibration samples"


STAGE = Stage(
    HalfSettings, run, frozenset({"torch", "prepared", "onnx"}), "onnx", False, _depends_on, _check, _describe, _becomes
)
