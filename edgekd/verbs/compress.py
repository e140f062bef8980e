"""The main verb: a model becomes an artifact for a target, with its evidence."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

import edgekd
from edgekd import host, processes
from edgekd.artifact import parity, write_artifact
from edgekd.budget import Verdict, judge
from edgekd.context import Context
from edgekd.errors import StageError, device_errors_as
from edgekd.evaluate import run_module, run_onnx
from edgekd.files import folder_in_one_step, sha256, write_json
from edgekd.measure import arm_figures, cost_figures, figures_on_target, limits_of, obtain_figures
from edgekd.models.precision import Precision
from edgekd.models.signature import Signature, parse_inputs
from edgekd.models.source import Opening, keep_source
from edgekd.pipeline import Step, run_arms, run_stages
from edgekd.request import Prepared, Request, prepare
from edgekd.run import Run, code_version
from edgekd.state import OnnxForm, PreparedForm
from edgekd.verbs.accuracy_drop import limits_on_accuracy, missed_remarks, sample_remarks, stage_verdicts
from edgekd.verbs.plan import check_order
from edgekd.verbs.remarks import (
    disturbed_remarks,
    float_remarks,
    late_remarks,
    parity_remarks,
    slower_remarks,
    worse_remarks,
)

REPORT_SCHEMA = 1
PARITY_SAMPLES = 512


@dataclass(frozen=True)
class Result:
    """What `compress` gives back for one target: the artifact's folder, the report, and the verdict on each limit."""

    artifact: Path
    report: dict[str, Any]
    verdicts: tuple[Verdict, ...]


def compress(
    model: str | Path | nn.Module,
    target: str | Sequence[str],
    data: Any = None,
    *,
    output: str | Path | None = None,
    inputs: Sequence[str] = (),
    signature: Signature | None = None,
    trust: Sequence[str] = (),
    factory: str | None = None,
    **options: Any,
) -> Result | list[Result]:
    """Compress a model for one target, or for several that share their training.

    Args:
        model: a file (pickled module, state dict, safetensors, TorchScript, `.pt2`, ONNX) or a network in memory.
        target: a name from `edgekd targets list`, or several.
        data: an image folder, `.npz`, set of `calibration/`, `package.module:function`, `Dataset`, or
            (inputs, targets) arrays; by default what the model's sidecar names.
        output: run directory; by default `edgekd-runs/<model>-<target>`.
        inputs: `[NAME:]SHAPE[:DTYPE]` texts, where neither the sidecar nor the archive tells.
        signature: of a network in memory: its inputs, task and labels.
        trust: packages whose layer classes a pickled model may use.
        factory: `package.module:function` that builds the network for a file of weights.
        options: the other fields of `Request`: recipe, runtime, metric, seed, device, threads, teacher, teacher_factory,
            teacher_cache, budget, resume, arms, say, explain, progress.

    Returns:
        A `Result`, or a list of them for a sequence of targets.

    Raises:
        EdgekdError: one message that says what is wrong and what to do; a missed budget is no error but a verdict.
    """
    names = (target,) if isinstance(target, str) else tuple(target)
    request = Request(
        model=model,
        targets=names,
        data=data,
        output=None if output is None else Path(output),
        opening=Opening(tuple(trust), factory, parse_inputs(inputs), signature),
        **options,
    )
    results = execute(prepare(request))
    return results[0] if isinstance(target, str) else results


@device_errors_as(StageError)
def execute(prepared: Prepared) -> list[Result]:
    """Run the stages, write the artifacts, and measure.

    Raises:
        InputError: an order that cannot work, a target without export, or a directory that cannot be written.
        StageError: a stage failed.
        BudgetMissed: a stage's own budget cannot be met.
    """
    for context in prepared.contexts:
        check_order(prepared.opened.state, prepared.recipe, context, arms=prepared.request.arms)
    request = prepared.request
    directory = prepared.directory
    with Run.open(directory, request.say, resume=request.resume, explain=request.explain) as run:
        if not processes.leads():  # trains with the first process, which does all else
            for context in prepared.contexts:
                chain = run_stages(run, prepared, replace(context, log=run.log))
                if request.arms:
                    run_arms(run, prepared, replace(context, log=run.log), chain)
            return []
        run.describe(
            prepared.opened.name, prepared.opened.structure, [context.target.name for context in prepared.contexts]
        )
        for remark in prepared.remarks:
            run.log(remark)
        write_json(directory / "recipe.json", prepared.recipe.to_json())
        opening = replace(request.opening, inputs=prepared.opened.state.signature.inputs)
        keep_source(request.model, opening, prepared.data_name, directory)
        several = len(prepared.contexts) > 1
        artifact, results = directory / "artifact", []
        with folder_in_one_step(artifact) as unseen:  # delivered when all of it is checked and measured
            for context in prepared.contexts:
                place = context.target.name if several else "."
                result = _one_target(run, prepared, replace(context, log=run.log), unseen / place)
                results.append(replace(result, artifact=artifact / place))
            (directory / "report.json").unlink(missing_ok=True)  # it speaks of the artifact that goes now
        reports = [result.report for result in results]
        write_json(directory / "report.json", {"schema": REPORT_SCHEMA, "targets": reports} if several else reports[0])
        for result in results:
            run.log(f"artifact: {result.artifact}")
    return results


def _one_target(run: Run, prepared: Prepared, context: Context, artifact: Path) -> Result:
    chain = run_stages(run, prepared, context)
    arms = run_arms(run, prepared, context, chain) if prepared.request.arms else None
    final = chain[-1]
    precision = final.state.form.precision
    settings = prepared.recipe.export
    signature = final.state.signature
    manifest = write_artifact(artifact, prepared.opened.name, final.file, precision, signature, settings, context)
    written = artifact / manifest.model_file
    checked = _check_parity(prepared, context, chain, written, precision)
    measured = obtain_figures(run, context, chain, written if settings.input == "uint8" else None)
    figures, comparisons, machine = measured.figures, measured.comparisons, measured.machine
    compared = arm_figures(run, context, chain[0], arms)
    end = "exported" if settings.input == "uint8" else chain[-1].name
    last = figures[end]
    cost = cost_figures(run, context, artifact, machine)
    limits = limits_of(context, figures["baseline"], last, cost, machine)
    verdicts = (*judge(prepared.budget, limits), *stage_verdicts(chain, comparisons, context))
    own = host.is_runtime(context.target, context.runtime_name, machine)
    timed = host.runtime_here(context.runtime_name) == context.runtime_name
    remarks = [
        *parity_remarks(checked),
        *missed_remarks(chain, verdicts),
        *sample_remarks(run, limits_on_accuracy(chain, prepared.budget), chain[0], context),
        *disturbed_remarks(measured.disturbances),
        *worse_remarks(chain, figures, context.metric),
        *(slower_remarks(chain, comparisons.get(end, {}), prepared.directory, own=own) if timed else []),
        *(late_remarks(chain, figures, comparisons) if timed and own else []),
        *float_remarks(chain),
    ]
    report = {
        "schema": REPORT_SCHEMA,
        "edgekd": edgekd.__version__,
        "model": {"name": prepared.opened.name, "format": prepared.opened.format, "key": chain[0].key},
        "target": context.target.name,
        "runtime": context.runtime_name,
        "recipe": prepared.recipe.to_json(),
        "data": {
            "origin": prepared.dataset.origin,
            "provenance": prepared.dataset.provenance,
            "licence": prepared.dataset.licence,
            "sha256": prepared.data_digest,
            "parts": context.parts.sizes(),
            "labelled": prepared.dataset.targets is not None,
        },
        "metric": {
            "name": context.metric.name,
            "unit": context.metric.unit,
            "higher_is_better": context.metric.higher_is_better,
        },
        "host": machine.to_dict(),
        "software": code_version(),
        "stages": [
            {
                "name": one.name,
                "key": one.key,
                "sha256": sha256(one.file),
                "notes": one.state.notes,
                "figures": {name: figure.to_dict() for name, figure in figures[one.name].items()},
                **comparisons.get(one.name, {}),
            }
            for one in chain
        ],
        "final": {
            "figures": {name: figure.to_dict() for name, figure in last.items()},
            **comparisons.get(end, {}),
        },
        "on_target": figures_on_target(context, last, cost, machine),
        "arms": compared,
        "parity": checked,
        "artifact": {name: {"sha256": entry.sha256, "bytes": entry.bytes} for name, entry in manifest.files.items()},
        "budget": [
            {
                "limit": verdict.limit,
                "allowed": verdict.allowed,
                "figure": verdict.figure.to_dict(),
                "outcome": verdict.outcome,
            }
            for verdict in verdicts
        ],
        "remarks": remarks,
    }
    return Result(artifact, json.loads(json.dumps(report)), verdicts)


def _check_parity(
    prepared: Prepared, context: Context, chain: Sequence[Step], written: Path, precision: Precision
) -> dict[str, Any]:
    """Compare the written file, on real inputs, with the last network in torch: fake-quantized, or before quantization."""
    part = context.parts.evaluation.take(PARITY_SAMPLES)
    source = next((one for one in reversed(chain) if not isinstance(one.state.form, OnnxForm)), None)
    if source is None or isinstance(source.state.form, OnnxForm):
        source = chain[0]
        expected = run_onnx(source.file, part, context.threads)
    else:
        expected = run_module(source.state.form.module, part)
    inputs = (part.raw() if prepared.recipe.export.input == "uint8" else part).inputs()
    result = parity(
        written, host.runtime_here(context.runtime_name), expected, inputs, precision, context.signature.task
    )
    trained = isinstance(source.state.form, PreparedForm)
    return {"against": source.name, "fake_quantized": trained, **result.to_json()}
