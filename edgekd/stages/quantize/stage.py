"""The quantize stage."""

import shutil
from pathlib import Path

import onnx

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.evaluate import judge_outputs, run_onnx
from edgekd.metrics import signal_to_noise
from edgekd.recipe import StageSettings
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.stages.quantize.bias_correction import correct_biases
from edgekd.stages.quantize.calibration import choose_range, observe
from edgekd.stages.quantize.onnxruntime_executor import prepare, write_int8
from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.stages.stage import Stage
from edgekd.state import ModelState, OnnxForm
from edgekd.target import QuantizationScheme


def scheme_of(context: Context) -> QuantizationScheme:
    """Return the target's scheme.

    Raises:
        InputError: the target's runtime runs no integers.
    """
    scheme = context.runtime.quantization
    if scheme is None:
        raise InputError(f"{context.target.name} with {context.runtime_name} runs no int8; leave quantize out")
    return scheme


def run(state: ModelState, settings: StageSettings, context: Context) -> ModelState:
    """Quantize with every calibrator; the validation part picks the file that stays.

    The pick is by the metric on the validation part; equal ones are told apart by the signal-to-noise ratio of the
    outputs against the float network.

    Raises:
        InputError: the network is quantized already.
        StageError: ONNX Runtime cannot quantize it.
    """
    assert isinstance(settings, QuantizeSettings)
    scheme = scheme_of(context)
    folder = context.workdir
    source = folder / "float.onnx"
    if isinstance(state.form, OnnxForm):
        if state.form.precision != "fp32":
            raise InputError(f"the network is {state.form.precision} already")
        shutil.copyfile(state.form.path, source)
    else:
        write_onnx(state.torch.module, state.signature, source, opset=context.runtime.opset)
    prepared_path = folder / "prepared.onnx"
    prepare(source, prepared_path)
    prepared = onnx.load(str(prepared_path))
    kept = (*settings.keep_float, *narrow_convolutions(prepared, settings.least_channels))
    part = context.parts.validation
    reference = run_onnx(source, part, context.threads)
    with context.progress("quantize", len(settings.calibrators) + 1) as advance:
        observed = observe(prepared, context.parts.calibration, folder, context.threads)
        corrected = (
            correct_biases(prepared, observed, per_channel=scheme.per_channel) if settings.bias_correction else 0
        )
        advance(1)
        scores: dict[str, tuple[float, float]] = {}
        for calibrator in settings.calibrators:
            ranges = {name: choose_range(histogram, calibrator, settings) for name, histogram in observed.items()}
            path = folder / f"{calibrator}.onnx"
            write_int8(prepared, ranges, scheme, kept, path)
            outputs = run_onnx(path, part, context.threads)
            value = judge_outputs(outputs, reference, part, context.metric)
            fidelity = min(signal_to_noise(outputs[name], reference[name]) for name in reference)
            scores[calibrator] = (value if context.metric.higher_is_better else -value, fidelity)
            context.log(f"quantize: {calibrator}: {context.metric.name} {value:.4g}, {fidelity:.1f} dB on validation")
            advance(1)
    best = max(scores, key=lambda calibrator: scores[calibrator])
    form = OnnxForm(_only(folder, f"{best}.onnx"), "int8")
    notes = {
        "calibrator": best,
        "validation": {name: [round(value, 4) for value in pair] for name, pair in scores.items()},
        "biases_corrected": corrected,
        "kept_float": list(kept),
        "calibration_samples": len(context.parts.calibration),
    }
    return state.after("quantize", form, notes)


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


def _only(folder: Path, name: str) -> Path:
    """Return the chosen file under the name that stays; the caller clears the working folder."""
    chosen = folder / "model.onnx"
    shutil.copyfile(folder / name, chosen)
    return chosen


def _depends_on(settings: StageSettings, context: Context) -> dict[str, object]:
    return {"data": True, "scheme": scheme_of(context).model_dump(mode="json"), "opset": context.runtime.opset}


def _check(settings: StageSettings, state: ModelState, context: Context) -> None:
    """Refuse a target without int8, and a network that is quantized already."""
    scheme_of(context)
    if isinstance(state.form, OnnxForm) and state.form.precision != "fp32":
        raise InputError(f"the network is {state.form.precision} already; use --recipe export")


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, QuantizeSettings)
    scheme = scheme_of(context)
    return (
        f"static int8, {scheme.activation_dtype} activations, {'per-channel' if scheme.per_channel else 'per-tensor'} weights, "
        f"{len(context.parts.calibration)} calibration samples, best of {', '.join(settings.calibrators)}"
    )


STAGE = Stage(QuantizeSettings, run, frozenset({"torch", "onnx"}), "onnx", False, _depends_on, _check, _describe)
