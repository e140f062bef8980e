"""What a person should know of the outcome of a run beside its figures, each with what to do next."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx

from edgekd.figures import Figure, in_digits
from edgekd.metrics import Metric
from edgekd.models.onnx_graph import RECURRENT
from edgekd.models.precision import Precision
from edgekd.pipeline import Step

LEAST_AGREEMENT = 0.99  # of the decisions of a fake-quantized network and its file
LEAST_COSINE = 0.95  # of a file's outputs with the network's; below it a person should look
_WEIGHTS_ALONE = "weights alone save bytes, not time; where time counts try static int8 or --dynamic"
# What to try where a file is slower than the float one that it was made of.
_INSTEAD: dict[Precision, str] = {
    "int8": "`edgekd diagnose {run}` shows which layers run in float and what rounding costs; try --dynamic where layers "
    "are linear or recurrent, or leave quantize out",
    "int8-dynamic": "leave quantize-dynamic out where time counts; static int8 is the faster form of convolutions",
    "int8-weights": _WEIGHTS_ALONE,
    "int4-weights": _WEIGHTS_ALONE,
    "ternary-weights": _WEIGHTS_ALONE,
    "fp16": "float16 saves bytes where the runtime computes in float32; leave half out where time counts",
    "int8+fp16": "try int8 without half",
}
_NOTED = {"to_ms": "latency_ms", "to_latency": "latency_share"}  # what a cut found, by what was asked


def slower_remarks(chain: Sequence[Step], final: dict[str, Any], run: Path, *, own: bool) -> list[str]:
    """Return a remark where the final file is slower than the float file that it was made of.

    Args:
        chain: the steps.
        final: the comparisons of the final file.
        run: the run directory.
        own: this machine is the target itself.
    """
    against, precision = final.get("against_float"), chain[-1].state.form.precision
    if against is None or against["speedup"]["verdict"] != "slower":
        return []
    found = against["speedup"]
    slower, least, most = (1 / found[end] for end in ("ratio", "high", "low"))
    advice = (
        _INSTEAD[precision].format(run=run) if own else "the target may differ: `python3 run.pyz profile` there tells"
    )
    return [
        f"{precision} runs {slower:.2f} times slower than fp32 here (95 % interval {least:.2f} to {most:.2f}): {advice}"
    ]


def disturbed_remarks(disturbances: Sequence[str]) -> list[str]:
    """Return a remark where other work disturbed the machine while it timed the files: intervals do not know of it."""
    if not disturbances:
        return []
    return [
        f"while the latencies were measured, {'; '.join(disturbances)}: p95 and p50 may be higher than "
        "their intervals tell, `times as fast` suffers less; measure again on a quiet machine"
    ]


def worse_remarks(chain: Sequence[Step], figures: Mapping[str, Mapping[str, Figure]], metric: Metric) -> list[str]:
    """Return a remark for every distillation whose score lies on the bad side of the interval of the step before it."""
    remarks = []
    for before, step in pairwise(chain):
        parent, score = figures[before.name]["score"], figures[step.name]["score"]
        bound = parent.low if metric.higher_is_better else parent.high
        if step.state.lineage[-1] != "distill" or bound is None or parent.value is None or score.value is None:
            continue
        if metric.drop(bound, score.value) > 0:
            remarks.append(
                f"{step.name} made the network worse, by {in_digits(metric.drop(parent.value, score.value), metric.unit)} {metric.unit or metric.name} "
                "against the step before it: try a lower learning_rate or more epochs; `--arms` shows what the teacher adds"
            )
    return remarks


def late_remarks(
    chain: Sequence[Step],
    figures: Mapping[str, Mapping[str, Figure]],
    comparisons: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Return a remark for every cut to a latency that the report, which measures again, finds above what was asked for."""
    remarks = []
    for step in chain:
        if step.state.lineage[-1:] != ("prune",) or step.state.form.precision != "fp32":
            continue
        notes = step.state.notes
        for setting, figure, unit in (
            ("to_ms", figures[step.name]["latency_p50_ms"], " ms"),
            ("to_latency", _share(comparisons.get(step.name, {})), " of the latency"),
        ):
            if setting not in notes or figure.value is None or figure.low is None or figure.low <= notes[setting]:
                continue
            remarks.append(
                f"{step.name} misses {setting} = {notes[setting]:g}: {figure.value:.3g}{unit} is measured now (95 % interval "
                f"{figure.low:.3g} to {figure.high:.3g}), {notes[_NOTED[setting]]:.3g} while it was cut, on a machine that was "
                f"faster or busier then; ask for {notes[setting] ** 2 / figure.value:.3g}, or cut on a quiet machine"
            )
    return remarks


def _share(comparisons: Mapping[str, Any]) -> Figure:
    """Return the time of a step as a share of that of the step before it."""
    found = comparisons.get("against_parent", {}).get("speedup")
    if found is None or found.get("low") is None:
        return Figure.absent("share", "not compared")
    return Figure("share", 1 / found["ratio"], "measured", low=1 / found["high"], high=1 / found["low"])


def parity_remarks(parity: dict[str, Any]) -> list[str]:
    """Return a remark where the outputs of the written file are far from those of the network that it was made of.

    A network that was trained with rounding decides as its file does, nearly always.
    """
    found = parity.get("agreement")
    if parity["fake_quantized"] and found is not None and found < LEAST_AGREEMENT:
        return [
            f"the file and the trained, fake-quantized network take the same decision for {found:.1%} of {parity['samples']} "
            "samples alone: train with a lower learning_rate, or longer, so that fewer decisions hang on a rounding"
        ]
    if parity["cosine"] >= LEAST_COSINE:
        return []
    agreement = "" if found is None else f", {found:.0%} of the decisions are the same"
    return [
        f"the outputs of the file are far from those of {parity['against']}: mean cosine {parity['cosine']:.3f}{agreement}; do not "
        "use it before `edgekd diagnose`, or other settings, tell why"
    ]


def float_remarks(chain: Sequence[Step]) -> list[str]:
    """Return for every stage that rounds a file which nodes of it stay in float."""
    remarks = []
    for step in chain:
        notes = step.state.notes
        why = notes.get("kept_float", {})
        if not why or notes.get("simulated"):
            continue
        nodes = onnx.load(str(step.file), load_external_data=False).graph.node
        counts = Counter((node.op_type, why[node.name]) for node in nodes if node.name in why)
        if not counts:
            continue
        left = ", ".join(
            (operator if count == 1 else f"{count} {operator}") + (f" ({reason})" if reason else "")
            for (operator, reason), count in counts.most_common()
        )
        unrounded = "float32" if step.state.lineage[-1] == "half" else "float"
        remarks.append(f"{step.name}: what stays in {unrounded}: {left}{_way_out(step, {one for one, _ in counts})}")
    return remarks


def _way_out(step: Step, operators: set[str]) -> str:
    recurrent = set(RECURRENT) & operators
    if step.state.lineage[-1] != "quantize-dynamic" or not recurrent:
        return ""
    names = ", ".join(f'"{name}"' for name in sorted(recurrent))
    return f"; a stage quantize-weights with operators = [{names}] rounds its weights"
