"""The rewrite stage."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekd import host
from edgekd.context import Context
from edgekd.errors import InputError, StageError
from edgekd.evaluate import Outputs, deciding_metric, judge_outputs, run_module, run_onnx
from edgekd.models.precision import Precision
from edgekd.recipe import StageSettings
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.stages.rewrite.payoff import reason_to_keep, smaller_by, timed, why_not_timed
from edgekd.stages.rewrite.rewrite import Change, Rewrite
from edgekd.stages.rewrite.settings import RewriteSettings
from edgekd.stages.rewrite.verification import Difference, difference_of
from edgekd.stages.stage import Stage
from edgekd.state import ModelState, OnnxForm, TorchForm


def run(state: ModelState, settings: StageSettings, context: Context) -> ModelState:
    """Do every rewrite in order; keep what holds its tolerance and, where it can be timed, pays.

    Raises:
        InputError: a rewrite does not fit the network, or the network is int8.
        StageError: an exact rewrite changed the outputs by more than its tolerance.
    """
    assert isinstance(settings, RewriteSettings)
    if state.form.precision != "fp32":
        raise InputError(f"the network is {state.form.precision} already; put rewrite before quantize")
    notes = []
    with context.progress("rewrite", len(settings.rewrites)) as advance:
        for number, rewrite in enumerate(settings.rewrites):
            folder = context.workdir / f"{number}-{rewrite.kind}"
            folder.mkdir()
            if rewrite.works_on == "onnx":
                state = replace(state, form=OnnxForm(_written(state, folder / "before.onnx", context)))
            state, note = _tried(rewrite, state, settings, replace(context, workdir=folder))
            notes.append(note)
            advance(1)
    return state.after("rewrite", state.form, {"rewrites": notes})


def _tried(
    rewrite: Rewrite, state: ModelState, settings: RewriteSettings, context: Context
) -> tuple[ModelState, dict[str, Any]]:
    """Return the state after a rewrite, or the one before it, with what is known about it."""
    change = rewrite.rewrite(state, context)
    note: dict[str, Any] = {
        "kind": rewrite.kind,
        "about": change.about,
        "kept": change.form is not None,
        **change.notes,
    }
    if change.form is None:
        context.log(f"rewrite: {rewrite.kind}: nothing to do: {change.about}")
        return state, note
    rewritten = replace(state, form=change.form)
    note |= _verified(rewrite, state, rewritten, change, context)
    if settings.keep == "if-better" and rewrite.for_speed:
        reason = why_not_timed(context)
        if reason is not None:
            note["latency"] = f"not measured: {reason}"
        else:
            files = [
                _written(one, context.workdir / f"{one_name}.onnx", context)
                for one_name, one in (("timed-before", state), ("timed-after", rewritten))
            ]
            note["latency"] = timed(files[0], files[1], rewrite, state.signature, context)
            note["latency"]["kept_because"] = reason_to_keep(note["latency"], rewrite.saves)
            if note["latency"]["kept_because"] is None:
                context.log(f"rewrite: {rewrite.kind}: taken back, {_no_payoff(note['latency'])} ({change.about})")
                return state, {**note, "kept": False}
    context.log(f"rewrite: {rewrite.kind}: {change.about}; {_in_words(note)}")
    return rewritten, note


def _verified(
    rewrite: Rewrite, before: ModelState, after: ModelState, change: Change, context: Context
) -> dict[str, Any]:
    """Return how far the outputs are off on the validation part, and of a rewrite that is not exact the metric.

    Raises:
        StageError: the tolerance is not held.
    """
    part = context.parts.validation
    outputs = [_outputs(one, context) for one in (before, after)]
    found: Difference = difference_of(*outputs)
    if rewrite.tolerance is not None and not found.relative <= rewrite.tolerance:
        raise StageError(
            f"{rewrite.kind} ({change.about}) changes the outputs by {found.relative:.3g} of the largest one, more than "
            f"tolerance = {rewrite.tolerance:g}; raise it, or leave the rewrite out"
        )
    note: dict[str, Any] = {
        "largest_difference": found.largest,
        "relative_difference": found.relative,
        "samples": len(part),
    }
    if not rewrite.exact:
        metric = deciding_metric(context.metric, part)
        scores = [None if metric.fidelity else judge_outputs(outputs[0], None, part, metric)]
        scores.append(judge_outputs(outputs[1], outputs[0], part, metric))
        note["validation"] = {"metric": metric.name, "before": scores[0], "after": scores[1]}
    return note


def _in_words(note: dict[str, Any]) -> str:
    words = f"outputs differ by at most {note['relative_difference']:.2g} of the largest"
    if "validation" in note:
        scores = note["validation"]
        before = "" if scores["before"] is None else f"{scores['before']:.4g} to "
        words += f", {scores['metric']} {before}{scores['after']:.4g} on validation"
    latency = note.get("latency")
    if isinstance(latency, dict):
        words += f"; {latency['verdict']}, x{latency['speedup']:.3f}"
        words += "" if latency["verdict"] == "faster" else f"; kept: {latency['kept_because']}"
    elif latency is not None:
        words += f"; speed {latency}"
    return words


def _no_payoff(latency: dict[str, Any]) -> str:
    size = smaller_by(latency)
    words = f"it does not pay: {latency['verdict']}, x{latency['speedup']:.3f} on {latency['on']}, the file "
    words += f"{abs(size):.1%} {'smaller' if size > 0 else 'larger'}" if size else "as large as before"
    return f'{words}; keep = "always" keeps it'


def _outputs(state: ModelState, context: Context) -> Outputs:
    if isinstance(state.form, OnnxForm):
        return run_onnx(state.form.path, context.parts.validation, context.threads)
    return run_module(state.torch.module, context.parts.validation)


def _written(state: ModelState, path: Path, context: Context) -> Path:
    """Return the ONNX file of a state; that of a torch network is written."""
    if isinstance(state.form, OnnxForm):
        return state.form.path
    write_onnx(state.torch.module, state.signature, path, opset=context.runtime.opset)
    return path


def _depends_on(settings: StageSettings, context: Context) -> dict[str, object]:
    assert isinstance(settings, RewriteSettings)
    uses: dict[str, object] = {
        "data": True,
        "operators": context.target.limits.operators,
        "runtime": context.runtime_name,
        "opset": context.runtime.opset,
    }
    if settings.keep == "if-better" and why_not_timed(context) is None:
        machine = host.this_machine()
        uses["machine"] = [host.describe(machine), machine.system, machine.cores]
    return uses


def _check(settings: StageSettings, state: ModelState, context: Context) -> None:
    """Refuse what a rewrite cannot do with this network or target."""
    assert isinstance(settings, RewriteSettings)
    for rewrite in settings.rewrites:
        if rewrite.works_on == "onnx" or isinstance(state.form, TorchForm):
            rewrite.check(state, context)


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, RewriteSettings)
    words = ", ".join(one.describe() for one in settings.rewrites)
    reason = why_not_timed(context) if settings.keep == "if-better" else None
    return words + (f"; not timed, {reason}" if reason else "")


def _accepts(settings: StageSettings) -> frozenset[str]:
    assert isinstance(settings, RewriteSettings)
    return frozenset({"torch"} if any(one.works_on == "torch" for one in settings.rewrites) else {"torch", "onnx"})


def _produces(settings: StageSettings, form: str) -> str:
    assert isinstance(settings, RewriteSettings)
    return "onnx" if settings.leaves_onnx else form


def _becomes(settings: StageSettings, precision: Precision) -> Precision:
    if precision != "fp32":
        raise InputError(f"the network is {precision} by then; put rewrite before quantize")
    return precision


STAGE = Stage(RewriteSettings, run, _accepts, _produces, False, _depends_on, _check, _describe, _becomes)
