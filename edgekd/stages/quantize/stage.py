"""The quantize stage."""

import itertools
import shutil
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path

import onnx

from edgekd.context import Context
from edgekd.data import Part
from edgekd.errors import InputError
from edgekd.evaluate import Outputs, deciding_metric, judge_outputs, run_onnx
from edgekd.metrics import Metric
from edgekd.models.onnx_graph import MULTIPLIES
from edgekd.recipe import StageSettings
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.stages.quantize.accuracy_search import search
from edgekd.stages.quantize.calibration import Range, choose_range
from edgekd.stages.quantize.choice import Score, best, in_words, score
from edgekd.stages.quantize.observation import observe
from edgekd.stages.quantize.onnxruntime_executor import prepare, write_int8
from edgekd.stages.quantize.rounding import round_layers
from edgekd.stages.quantize.sensitivity import Sensitivity, measure_sensitivity
from edgekd.stages.quantize.settings import Calibrator, QuantizeSettings, Rounding
from edgekd.stages.quantize.simulation import check_names, described, simulation_of
from edgekd.stages.quantize.simulation import prepare as simulate
from edgekd.stages.stage import Stage
from edgekd.state import ModelState, OnnxForm, TorchForm
from edgekd.target import QuantizationScheme

Candidate = tuple[Calibrator, Rounding]

SAMPLES = 16  # of the validation part, to measure sensitivity on


def scheme_of(context: Context) -> QuantizationScheme:
    """Return the target's scheme.

    Raises:
        InputError: the target's runtime runs no integers, or wants a scheme that this executor has not.
    """
    scheme = context.runtime.quantization
    if scheme is None:
        raise InputError(f"{context.target.name} with {context.runtime_name} runs no int8; leave quantize out")
    if scheme.power_of_two or scheme.weight_axis != 0:
        raise InputError(
            f"{context.target.name}: power_of_two and weight_axis are for another executor than ONNX Runtime"
        )
    return scheme


def run(state: ModelState, settings: StageSettings, context: Context) -> ModelState:
    """Quantize with every calibrator and rounding; the validation part picks the file that stays.

    The pick is by the metric on the validation part; equal ones are told apart by the signal-to-noise ratio of the
    outputs against the float network. Where the metric itself compares with the float network, that ratio goes first.

    Raises:
        InputError: the network is quantized already, or `keep_float` names nothing in it.
        StageError: ONNX Runtime cannot quantize it.
    """
    assert isinstance(settings, QuantizeSettings)
    scheme = scheme_of(context)
    if settings.simulate:
        simulation = simulation_of(settings, scheme)
        check_names(simulation, state.torch.module)
        return state.after("quantize", *simulate(state.torch, state.signature, simulation, context))
    folder = context.workdir
    source = folder / "float.onnx"
    if isinstance(state.form, OnnxForm):
        if state.form.precision != "fp32":
            raise InputError(f"the network is {state.form.precision} already")
        shutil.copyfile(state.form.path, source)
    else:
        write_onnx(state.torch.module, state.signature, source, opset=context.runtime.opset)
    prepared = prepare(source, folder / "prepared.onnx", context.log)
    _check_names(prepared, settings.keep_float)
    part = context.parts.validation
    metric = deciding_metric(context.metric, part)
    candidates: list[Candidate] = list(itertools.product(settings.calibrators, settings.rounding))
    with context.progress("quantize", len(candidates) + 2) as advance:
        observed = observe(prepared, context.parts.calibration, folder, context.threads)
        layers = {
            rounding: round_layers(
                prepared, observed.moments, scheme, rounding, bias_correction=settings.bias_correction
            )
            for rounding in settings.rounding
        }
        advance(1)

        @cache
        def ranges(calibrator: Calibrator) -> dict[str, Range]:
            return {name: choose_range(one, calibrator, settings) for name, one in observed.histograms.items()}

        def write(candidate: Candidate, kept: tuple[str, ...]) -> Path:
            calibrator, rounding = candidate
            path = folder / f"{calibrator}-{rounding}.onnx"
            write_int8(prepared, ranges(calibrator), layers[rounding], scheme, kept, path)
            return path

        kept = (*settings.keep_float, *narrow_convolutions(prepared, settings.least_channels))
        if settings.float_noise < 1:
            first = onnx.load(str(write(("mse", settings.rounding[0]), kept)))
            measured = measure_sensitivity(prepared, first, part.take(SAMPLES), folder, context.threads)
            kept = (*kept, *sensitive_layers(measured, kept, settings, context.log))
        advance(1)
        reference = run_onnx(source, part, context.threads)
        files: dict[Candidate, Path] = {}
        scores: dict[Candidate, Score] = {}
        for candidate in candidates:
            files[candidate] = write(candidate, kept)
            outputs = run_onnx(files[candidate], part, context.threads)
            scores[candidate] = score(outputs, reference, part, metric)
            context.log(f"quantize: {', '.join(candidate)}: {in_words(scores[candidate], metric)}")
            advance(1)
    chosen = best(scores, metric)
    held: dict[str, object] = {}
    if settings.accuracy_drop is not None:
        kept, held = _hold(
            settings.accuracy_drop,
            files[chosen],
            kept,
            partial(write, chosen),
            prepared,
            reference,
            part,
            metric,
            context,
        )
    form = OnnxForm(_only(files[chosen]), "int8")
    left = {name: kind for name, kind in float_layers(onnx.load(str(form.path))).items() if name not in kept}
    if left:
        context.log(f"quantize: {', '.join(sorted(set(left.values())))} stays in float: there is no int8 for it here")
    notes = {
        "calibrator": chosen[0],
        "rounding": chosen[1] if layers[chosen[1]] else "nearest",
        "validation": {", ".join(one): [round(value, 4) for value in pair] for one, pair in scores.items()},
        "biases_corrected": sum(
            one.bias is not None and not {one.layer.node, one.layer.kind} & set(kept) for one in layers[chosen[1]]
        ),
        "kept_float": [*kept, *left],
        "calibration_samples": len(context.parts.calibration),
        **held,
    }
    return state.after("quantize", form, notes)


def _hold(
    most: float,
    file: Path,
    kept: tuple[str, ...],
    write: Callable[[tuple[str, ...]], Path],
    prepared: onnx.ModelProto,
    reference: Outputs,
    part: Part,
    metric: Metric,
    context: Context,
) -> tuple[tuple[str, ...], dict[str, object]]:
    """Write a file anew with as few layers in float as hold the accuracy; return what stays in float, and notes."""
    before = judge_outputs(reference, reference, part, metric)

    def drop_of(outputs: Outputs) -> float:
        return metric.drop(before, judge_outputs(outputs, reference, part, metric))

    found = search(onnx.load(str(file)), prepared, part, drop_of, most, context.workdir, context.threads, context.log)
    drop = found.drop
    if found.layers:
        kept = (*kept, *(name for name in found.layers if name not in kept))
        drop = drop_of(run_onnx(write(kept), part, context.threads))  # the quantizer's own graph may differ a little
    if drop > most:
        context.log(
            f"quantize: accuracy_drop = {most:g} is out of reach: the best file drops {drop:.3g} with {len(kept)} nodes in float"
        )
    return kept, {"accuracy_drop": {"most": most, "reached": round(drop, 4), "layers_in_float": list(found.layers)}}


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
        if MULTIPLIES.search(node.op_type) and makers.get(node.input[0]) != "DequantizeLinear"
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


def _check_names(model: onnx.ModelProto, wanted: Sequence[str]) -> None:
    """Refuse a name in `keep_float` that is neither a node's nor an operator's."""
    known = {node.name for node in model.graph.node} | {node.op_type for node in model.graph.node}
    for name in wanted:
        if name not in known:
            near = ", ".join(get_close_matches(name, sorted(known), 3)) or "see the nodes in a viewer such as Netron"
            raise InputError(f"quantize.keep_float: no node or operator {name!r}; nearest: {near}")


def _only(file: Path) -> Path:
    """Return the chosen file under the name that stays; the caller clears the working folder."""
    chosen = file.with_name("model.onnx")
    shutil.copyfile(file, chosen)
    return chosen


def _depends_on(settings: StageSettings, context: Context) -> dict[str, object]:
    return {"data": True, "scheme": scheme_of(context).model_dump(mode="json"), "opset": context.runtime.opset}


def _check(settings: StageSettings, state: ModelState, context: Context) -> None:
    """Refuse a target without int8, and a network that is quantized already."""
    assert isinstance(settings, QuantizeSettings)
    scheme = scheme_of(context)
    if settings.simulate:
        simulation = simulation_of(settings, scheme)
        if isinstance(state.form, OnnxForm):
            raise InputError(
                "an ONNX network cannot be trained, so there is nothing to simulate for; leave simulate out"
            )
        if isinstance(state.form, TorchForm):
            check_names(simulation, state.form.module)
    if isinstance(state.form, OnnxForm) and state.form.precision != "fp32":
        raise InputError(f"the network is {state.form.precision} already; use --recipe export")


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, QuantizeSettings)
    scheme = scheme_of(context)
    weights = "per-channel" if scheme.per_channel else "per-tensor"
    if settings.simulate:
        return described(simulation_of(settings, scheme), len(context.parts.calibration))
    return (
        f"static int8, {scheme.activation_dtype} activations, {weights} weights, {len(context.parts.calibration)} "
        f"calibration samples, {len(settings.calibrators)} calibrators x {len(settings.rounding)} roundings"
    )


def _produces(settings: StageSettings, form: str) -> str:
    assert isinstance(settings, QuantizeSettings)
    return "prepared" if settings.simulate else "onnx"


STAGE = Stage(QuantizeSettings, run, frozenset({"torch", "onnx"}), _produces, False, _depends_on, _check, _describe)
