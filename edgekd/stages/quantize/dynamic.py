"""Dynamic quantization: weights in 8 bits, and activations rounded at every call to the range that they have then."""

import os
from typing import Literal

import onnx
from pydantic import Field

from edgekd.context import Context
from edgekd.errors import InputError, StageError
from edgekd.models.onnx_graph import MULTIPLIES, named_nodes
from edgekd.models.precision import DYNAMIC, Precision
from edgekd.recipe import StageSettings
from edgekd.stages.quantize.float_file import write_float_file
from edgekd.stages.quantize.gemm_layout import transpose_weights
from edgekd.stages.quantize.preparation import prepare, quiet
from edgekd.stages.stage import Stage, check_runtime, from_float
from edgekd.state import ModelState, OnnxForm

Operator = Literal["MatMul", "Gemm", "LSTM", "Attention"]


class DynamicSettings(StageSettings):
    """Dynamic int8: 8-bit weights, activations rounded at every call to the range they have then; nothing is calibrated.

    For recurrent layers and attention, whose ranges change from input to input. ONNX Runtime has no dynamic GRU.
    """

    kind: Literal["quantize-dynamic"] = "quantize-dynamic"
    operators: tuple[Operator, ...] = Field(
        default=("MatMul", "Gemm", "LSTM", "Attention"), min_length=1, description="with constant weights"
    )
    per_channel: bool = Field(default=True, description="a step for each output; false: one for the whole weight")
    reduce_range: bool = Field(
        default=False, description="7-bit weights, for x86 without VNNI, where sums of two 8-bit products overflow"
    )
    keep_float: tuple[str, ...] = Field(
        default=(), description="nodes of the file, modules or operators that stay in float"
    )


def run(state: ModelState, settings: StageSettings, context: Context) -> ModelState:
    """Quantize with ONNX Runtime's dynamic quantizer.

    Raises:
        InputError: there is nothing to round, or `keep_float` names nothing in the network.
        StageError: the quantizer fails.
    """
    assert isinstance(settings, DynamicSettings)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = context.workdir
    write_float_file(state, context, folder / "float.onnx")
    graph = prepare(folder / "float.onnx", folder / "prepared.onnx", context.log)
    transpose_weights(graph, copy_shared=True)  # the quantizer would turn a weight for all that read it
    onnx.save(graph, str(folder / "prepared.onnx"))
    kept = named_nodes(graph, settings.keep_float, "keep_float")
    kept |= {node.name for node in graph.graph.node if node.op_type not in settings.operators}
    path = folder / "model.onnx"
    try:
        with quiet():
            quantize_dynamic(
                folder / "prepared.onnx",
                path,
                op_types_to_quantize=list(DYNAMIC),
                # It makes a Gemm a MatMul and an Add before it looks at names.
                nodes_to_exclude=sorted(kept | {f"{name}_MatMul" for name in kept}),
                per_channel=settings.per_channel,
                reduce_range=settings.reduce_range,
                weight_type=QuantType.QInt8,
            )
    except Exception as error:  # its errors have no common base
        raise StageError(f"ONNX Runtime cannot quantize the graph: {error}") from error
    made = onnx.load(str(path))
    nodes = sum(node.op_type in DYNAMIC.values() for node in made.graph.node)
    left = _float_weights(made)
    named = ", ".join(sorted(set(left.values()))) or "no constant weights"
    if not nodes:
        raise InputError(
            f"nothing of {', '.join(settings.operators)} can be rounded at every call; the network has {named}"
        )
    if left:
        context.log(f"quantize-dynamic: {len(left)} nodes with weights stay in float: {named}")
    del made.graph.value_info[:]
    onnx.save(made, str(path))
    notes = {"nodes": nodes, "kept_float": dict.fromkeys(left, "")}
    return state.after("quantize-dynamic", OnnxForm(path, "int8-dynamic"), notes)


def _float_weights(model: onnx.ModelProto) -> dict[str, str]:
    """Return the nodes that multiply by float weights, by name, with their operators."""
    floats = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    return {
        node.name: node.op_type
        for node in model.graph.node
        if MULTIPLIES.search(node.op_type) and node.op_type not in DYNAMIC.values() and node.input[1] in floats
    }


def _becomes(settings: StageSettings, precision: Precision) -> Precision:
    from_float(precision)
    return "int8-dynamic"


def _check(settings: StageSettings, state: ModelState, context: Context) -> None:
    check_runtime("int8-dynamic", context)


def _depends_on(settings: StageSettings, context: Context) -> dict[str, object]:
    return {"opset": context.runtime.opset}


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, DynamicSettings)
    weights = "per-channel" if settings.per_channel else "per-tensor"
    return f"dynamic int8 of {', '.join(settings.operators)}, {weights} weights, activations rounded at every call"


STAGE = Stage(
    DynamicSettings, run, frozenset({"torch", "onnx"}), "onnx", False, _depends_on, _check, _describe, _becomes
)
