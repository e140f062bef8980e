"""The quantize stage."""

import shutil
from collections.abc import Callable, Collection, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import onnx

from edgekd.context import Context
from edgekd.errors import BudgetMissed, InputError
from edgekd.evaluate import deciding_metric
from edgekd.host import is_target, this_machine
from edgekd.models.onnx_graph import MULTIPLIES, named_nodes
from edgekd.models.precision import ALONE, Precision, precision_of
from edgekd.recipe import StageSettings
from edgekd.stages.quantize.choice import Drop, Score, best, in_words, score
from edgekd.stages.quantize.executors import Candidate, Quantizer, executor_of
from edgekd.stages.quantize.float_file import write_float_file
from edgekd.stages.quantize.preparation import prepare
from edgekd.stages.quantize.sensitivity import Sensitivity, measure_sensitivity
from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.stages.quantize.simulation import check_names, described, simulation_of
from edgekd.stages.quantize.simulation import prepare as simulate
from edgekd.stages.stage import Stage, check_runtime, from_float
from edgekd.state import ModelState, OnnxForm, TorchForm
from edgekd.target import QuantizationScheme

SAMPLES = 16  # of the validation part, to measure sensitivity on


def scheme_of(settings: QuantizeSettings, context: Context) -> QuantizationScheme:
    """Return the target's scheme, with the range of weights that the settings ask for, or that this machine needs.

    Raises:
        InputError: the target's runtime runs no integers, its executor has not this scheme, or the settings contradict it.
    """
    executor_of(context)
    scheme = context.runtime.quantization
    assert scheme is not None
    wanted = settings.weight_range
    if wanted == "auto":
        wanted = "seven-bit" if _overflows(scheme, context) else scheme.weight_range
    if wanted == "seven-bit" and (scheme.weight_dtype != "int8" or not scheme.weight_symmetric):
        raise InputError('quantize.weight_range = "seven-bit" is for symmetric int8 weights, which the target has not')
    return scheme.model_copy(update={"weight_range": wanted})


def _overflows(scheme: QuantizationScheme, context: Context) -> bool:
    """Return whether the target is a machine like this one, and products of its integers overflow."""
    eight_bit = scheme.weight_dtype == "int8" and scheme.weight_symmetric and scheme.activation_dtype == "uint8"
    machine = this_machine()
    return eight_bit and is_target(context.target, machine) and machine.int8_overflows


def run(state: ModelState, settings: StageSettings, context: Context) -> ModelState:
    """Quantize in every way that the runtime's executor has; the validation part picks the file that stays.

    The pick is by the metric on the validation part; equal ones are told apart by the signal-to-noise ratio of the
    outputs against the float network. Where the metric itself compares with the float network, that ratio goes first.

    Raises:
        BudgetMissed: `accuracy_drop` is held by the float network alone.
        InputError: the network is quantized already, nothing in it can be, or `keep_float` names nothing in it.
        StageError: the executor cannot quantize it.
    """
    assert isinstance(settings, QuantizeSettings)
    scheme = scheme_of(settings, context)
    if settings.simulate:
        simulation = simulation_of(settings, scheme)
        check_names(simulation, state.torch.module)
        return state.after("quantize", *simulate(state.torch, state.signature, simulation, context))
    if scheme.weight_range == "seven-bit":
        context.log("quantize: weights lie in -64..64: products of 8 bits could overflow without VNNI instructions")
    folder = context.workdir
    source = folder / "float.onnx"
    if isinstance(state.form, OnnxForm) and state.form.precision != "fp32":
        raise InputError(f"the network is {state.form.precision} already")
    write_float_file(state, context, source)
    prepared = prepare(source, folder / "prepared.onnx", context.log)
    named = named_nodes(prepared, settings.keep_float, "quantize.keep_float")
    settings = settings.model_copy(update={"keep_float": tuple(sorted(named))})  # executors may change operators
    narrow = f"fewer than {settings.least_channels} input channels: least_channels"
    why = dict.fromkeys(narrow_convolutions(prepared, settings.least_channels), narrow)
    why |= dict.fromkeys(settings.keep_float, "keep_float")
    if not any(MULTIPLIES.search(node.op_type) and node.name not in why for node in prepared.graph.node):
        raise InputError(_nothing_rounded(prepared, why))  # before the search
    quantizer = executor_of(context).calibrate(prepared, scheme, settings, context)
    part = context.parts.validation
    metric = deciding_metric(context.metric, part)
    reference = quantizer.run(source, part)
    with context.progress("quantize", len(quantizer.candidates) + 1) as advance:
        why |= dict.fromkeys(_noisy_layers(quantizer, tuple(why), settings), "its rounding is too noisy: float_noise")
        kept = tuple(why)
        advance(1)
        files: dict[Candidate, Path] = {}
        scores: dict[Candidate, Score] = {}
        for candidate in quantizer.candidates:
            files[candidate] = folder / f"{'-'.join(candidate)}.onnx"
            quantizer.write(candidate, kept, files[candidate])
            scores[candidate] = score(quantizer.run(files[candidate], part), reference, part, metric)
            context.log(f"quantize: {', '.join(candidate)}: {in_words(scores[candidate], metric)}")
            advance(1)
    chosen = best(scores, metric)
    held: dict[str, object] = {}
    if settings.accuracy_drop is not None:
        drop = Drop(reference, part, metric)
        kept, held = _hold(quantizer, chosen, files[chosen], kept, drop, settings.accuracy_drop)
    form = OnnxForm(_only(files[chosen]), "int8")
    model = onnx.load(str(form.path))
    if precision_of(model) != "int8" and held:
        raise BudgetMissed(
            f"quantize: accuracy_drop = {settings.accuracy_drop:g} is held with every layer in float alone; raise it, let a "
            "training make up for it (simulate = true, then distill), or leave quantize out"
        )
    if precision_of(model) != "int8":
        raise InputError(_nothing_rounded(model, kept))
    left = {name: kind for name, kind in float_layers(model).items() if name not in kept}
    if left:
        context.log(
            f"quantize: {', '.join(sorted(set(left.values())))} stays in float: integers for it are missing here, or do not pay"
        )
    why |= dict.fromkeys((name for name in kept if name not in why), "accuracy_drop")
    why |= dict.fromkeys(left, "integers for it are missing here, or do not pay")
    notes = {
        **quantizer.notes(chosen, kept),
        "weight_range": scheme.weight_range,
        "validation": {", ".join(one): [round(value, 4) for value in pair] for one, pair in scores.items()},
        "kept_float": why,
        "calibration_samples": len(context.parts.calibration),
        **held,
    }
    return state.after("quantize", form, notes)


def _nothing_rounded(model: onnx.ModelProto, kept: Collection[str]) -> str:
    operators = sorted({node.op_type for node in model.graph.node})
    left = f", and {', '.join(kept)} stays in float" if kept else ""
    return f"nothing in this network is rounded: its operators are {', '.join(operators)}{left}; leave quantize out"


def _hold(
    quantizer: Quantizer, chosen: Candidate, file: Path, kept: tuple[str, ...], drop: Drop, most: float
) -> tuple[tuple[str, ...], dict[str, object]]:
    """Write a file anew with as few layers in float as hold the accuracy; return what stays in float, and notes."""
    found = quantizer.hold(chosen, file, kept, drop, most)
    reached = found.drop
    if found.layers:
        kept = (*kept, *(name for name in found.layers if name not in kept))
        quantizer.write(chosen, kept, file)
        reached = drop(quantizer.run(file, drop.part))  # the quantizer's own graph may differ a little
    return kept, {"accuracy_drop": {"most": most, "reached": round(reached, 4), "layers_in_float": list(found.layers)}}


def _noisy_layers(quantizer: Quantizer, kept: tuple[str, ...], settings: QuantizeSettings) -> list[str]:
    """Return the nodes that run in float because an activation around them bears no rounding."""
    if settings.float_noise == 1:
        return []
    context = quantizer.context
    path = context.workdir / "first.onnx"
    quantizer.write(quantizer.usual, kept, path)
    few = context.parts.validation.take(SAMPLES)
    measured = measure_sensitivity(quantizer.prepared, onnx.load(str(path)), few, context.workdir, context.threads)
    return sensitive_layers(measured, kept, settings, context.log)


def sensitive_layers(
    measured: Sequence[Sensitivity], kept: Sequence[str], settings: QuantizeSettings, log: Callable[[str], None]
) -> list[str]:
    """Return the nodes that run in float so that the noisiest activations do, where that costs little."""
    found: dict[str, float] = {}
    for one in measured:
        if one.noise <= settings.float_noise:
            break
        wanted = {**found, **{name: price for name, price in one.nodes.items() if name not in kept}}
        if sum(wanted.values()) <= settings.float_share:
            found = wanted
            log(f"quantize: {one.tensor} stays in float: rounding it alone makes {one.noise:.0%} of the noise")
    return list(found)


def float_layers(model: onnx.ModelProto) -> dict[str, str]:
    """Return the nodes that multiply and take no rounded values, by name, with their operators."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    return {
        node.name: node.op_type
        for node in model.graph.node
        if MULTIPLIES.search(node.op_type) and "DequantizeLinear" not in map(makers.get, node.input[:2])
    }


def narrow_convolutions(model: onnx.ModelProto, least_channels: int) -> list[str]:
    """Return the names of ungrouped convolutions with fewer input channels than that."""
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        if (
            node.op_type == "Conv"
            and groups == 1
            and node.input[1] in weights
            and weights[node.input[1]][1] < least_channels
        ):
            found.append(node.name)
    return found


def _only(file: Path) -> Path:
    """Return the chosen file under the name that stays; the caller clears the working folder."""
    chosen = file.with_name("model.onnx")
    shutil.copyfile(file, chosen)
    return chosen


def _depends_on(settings: StageSettings, context: Context) -> dict[str, object]:
    assert isinstance(settings, QuantizeSettings)
    return {
        "data": True,
        "runtime": context.runtime_name,
        "tools": {name: version(name) for name in executor_of(context).packages if find_spec(name)},
        "scheme": scheme_of(settings, context).model_dump(mode="json"),
        "opset": context.runtime.opset,
    }


def _check(settings: StageSettings, state: ModelState, context: Context) -> None:
    """Refuse a target without int8, and a simulation that cannot be."""
    assert isinstance(settings, QuantizeSettings)
    scheme = scheme_of(settings, context)
    if settings.simulate:
        simulation = simulation_of(settings, scheme)
        if simulation.weights != "int8":  # several in a byte, whatever the activations are
            check_runtime(ALONE[simulation.weights], context)
        if isinstance(state.form, OnnxForm):
            raise InputError(
                "an ONNX network cannot be trained, so there is nothing to simulate for; leave simulate out"
            )
        if isinstance(state.form, TorchForm):
            check_names(simulation, state.form.module)
    executor_of(context).check()


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, QuantizeSettings)
    scheme = scheme_of(settings, context)
    weights = "per-channel" if scheme.per_channel else "per-tensor"
    if settings.simulate:
        return described(simulation_of(settings, scheme), len(context.parts.calibration))
    counts = zip(executor_of(context).ways(settings), ("calibrator", "rounding"), strict=True)
    tried = [f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts]
    weights = f"{'7-bit ' if scheme.weight_range == 'seven-bit' else ''}{weights}"
    return (
        f"static int8 ({executor_of(context).description}), {scheme.activation_dtype} activations, {weights} weights, "
        f"{len(context.parts.calibration)} calibration samples, {' x '.join(tried)}"
    )


def _produces(settings: StageSettings, form: str) -> str:
    assert isinstance(settings, QuantizeSettings)
    return "prepared" if settings.simulate else "onnx"


def _becomes(settings: StageSettings, precision: Precision) -> Precision:
    assert isinstance(settings, QuantizeSettings)
    from_float(precision)
    return settings.precision


STAGE = Stage(
    QuantizeSettings, run, frozenset({"torch", "onnx"}), _produces, False, _depends_on, _check, _describe, _becomes
)
