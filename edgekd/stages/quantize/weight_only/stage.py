"""The stage that rounds weights alone."""

from collections.abc import Sequence

import onnx

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.evaluate import deciding_metric, run_onnx
from edgekd.models.onnx_graph import MULTIPLIES, RECURRENT, named_nodes
from edgekd.models.precision import Precision
from edgekd.recipe import StageSettings
from edgekd.stages.quantize.choice import best, in_words, score
from edgekd.stages.quantize.float_file import write_float_file
from edgekd.stages.quantize.gemm_layout import transpose_weights
from edgekd.stages.quantize.layers import array_of
from edgekd.stages.quantize.observation import Moments, Watched, first_pass
from edgekd.stages.quantize.preparation import prepare
from edgekd.stages.quantize.settings import Rounding
from edgekd.stages.quantize.weight_only.blocks import Blocks, packed_bytes, round_blocks
from edgekd.stages.quantize.weight_only.fusion import without_fusion
from edgekd.stages.quantize.weight_only.settings import WeightOnlySettings
from edgekd.stages.quantize.weight_only.weights import Weight, find_weights, with_integers
from edgekd.stages.stage import Stage, check_runtime, from_float
from edgekd.state import ModelState, OnnxForm

_OPSET = 21  # the first one with 4 bits and blocks


def run(state: ModelState, settings: StageSettings, context: Context) -> ModelState:
    """Round the weights in every way asked for; the validation part picks the file that stays.

    Raises:
        InputError: there is nothing to round, `keep_float` names nothing in the network, or weights are not finite.
        StageError: the network cannot be written, or ONNX Runtime not prepare it.
    """
    assert isinstance(settings, WeightOnlySettings)
    folder, part = context.workdir, context.parts.validation
    source = folder / "float.onnx"
    write_float_file(state, context, source, _least_opset(settings))
    graph = prepare(source, folder / "prepared.onnx", context.log)
    transpose_weights(graph)
    weights = find_weights(graph, settings.operators, named_nodes(graph, settings.keep_float, "keep_float"))
    if not weights:
        raise InputError(f"no weights of {', '.join(settings.operators)} can be rounded; {_what_there_is(graph)}")
    graph = without_fusion(graph, {one.node for one in weights if one.operator in ("Gemm", "MatMul")})
    moments = _moments(graph, weights, context) if "least-output-error" in settings.rounding else {}
    metric = deciding_metric(context.metric, part)
    reference = run_onnx(source, part, context.threads)
    files, scores = {}, {}
    with context.progress("quantize-weights", len(settings.rounding)) as advance:
        for rounding in settings.rounding:
            rounded = [(one, _round(graph, one, settings, moments if rounding != "nearest" else {})) for one in weights]
            files[rounding] = folder / f"{rounding}.onnx"
            onnx.save(with_integers(graph, rounded, settings.bits, settings.block), str(files[rounding]))
            scores[rounding] = score(run_onnx(files[rounding], part, context.threads), reference, part, metric)
            context.log(f"quantize-weights: {rounding}: {in_words(scores[rounding], metric)}")
            advance(1)
    chosen: Rounding = best(scores, metric)
    path = files[chosen].replace(folder / "model.onnx")
    done = {one.node for one in weights}
    constants = {tensor.name for tensor in graph.graph.initializer}
    left = [
        node.name
        for node in graph.graph.node
        if MULTIPLIES.search(node.op_type) and node.name not in done and node.input[1] in constants
    ]
    notes = {
        "rounding": chosen if moments else "nearest",
        "validation": {name: [round(value, 4) for value in pair] for name, pair in scores.items()},
        "weights": sum(one.size for one in weights),
        "packed_bytes": sum(_bytes(one, settings) for one in weights),
        "nodes": len(done),
        "kept_float": dict.fromkeys(left, ""),
    }
    return state.after("quantize-weights", OnnxForm(path, _precision(settings)), notes)


def _moments(graph: onnx.ModelProto, weights: Sequence[Weight], context: Context) -> dict[str, Moments]:
    watched = Watched(graph, context.parts.calibration, context.workdir, context.threads)
    try:
        return first_pass(watched, [one.layer for one in weights if one.layer is not None])[1]
    finally:
        watched.path.unlink()


def _round(graph: onnx.ModelProto, weight: Weight, settings: WeightOnlySettings, moments: dict[str, Moments]) -> Blocks:
    known = moments.get(weight.node)
    second = None
    if known is not None and known.covariance is not None:  # E[x x^T]: the bias stays as it is
        second = known.covariance + known.mean[:, :, None] * known.mean[:, None, :]
    rows = weight.rows(array_of(graph, weight.name))
    block = settings.block if weight.blocked else 0
    return round_blocks(rows, settings.bits, block, second, symmetric=settings.symmetric)


def _bytes(weight: Weight, settings: WeightOnlySettings) -> int:
    """Return the bytes that a weight takes in the file: the formula of `packed_bytes`."""
    size = (settings.block if weight.blocked else 0) or weight.inputs
    steps = weight.size // weight.inputs * -(-weight.inputs // size)
    return packed_bytes(weight.size, steps, settings.bits, symmetric=settings.symmetric)


def _what_there_is(graph: onnx.ModelProto) -> str:
    there = sorted({node.op_type for node in graph.graph.node if MULTIPLIES.search(node.op_type)})
    if not there:
        return "nothing in the network multiplies by weights; leave the stage out"
    return f"the network multiplies in {', '.join(there)}; tied weights and what keep_float names stay in float"


def _least_opset(settings: WeightOnlySettings) -> int:
    blocks = settings.block > 0 or not set(RECURRENT).isdisjoint(settings.operators)
    return _OPSET if settings.bits == 4 or blocks else 0


def _precision(settings: WeightOnlySettings) -> Precision:
    return "int4-weights" if settings.bits == 4 else "int8-weights"


def _becomes(settings: StageSettings, precision: Precision) -> Precision:
    assert isinstance(settings, WeightOnlySettings)
    from_float(precision)
    return _precision(settings)


def _check(settings: StageSettings, state: ModelState, context: Context) -> None:
    """Refuse a runtime that does not run such weights, or has an opset without them."""
    assert isinstance(settings, WeightOnlySettings)
    check_runtime(_precision(settings), context)
    opset, least = context.runtime.reads_opset, _least_opset(settings)
    if opset is not None and opset < least:
        raise InputError(
            f"4 bits and blocks need opset {least}, {context.runtime_name} takes up to {opset}; "
            "set bits = 8 and block = 0, without GRU and LSTM"
        )


def _depends_on(settings: StageSettings, context: Context) -> dict[str, object]:
    return {"data": True, "opset": context.runtime.opset}


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, WeightOnlySettings)
    blocks = f"blocks of {settings.block} inputs" if settings.block else "one block an output"
    return f"int{settings.bits} weights of {', '.join(settings.operators)} in {blocks}, float activations"


STAGE = Stage(
    WeightOnlySettings,
    run,
    frozenset({"torch", "onnx"}),
    "onnx",
    False,
    _depends_on,
    _check,
    _describe,
    _becomes,
)
