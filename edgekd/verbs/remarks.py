"""What a person should know of the outcome of a run beside its figures, each with what to do next."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from edgekd.models.onnx_graph import RECURRENT
from edgekd.models.precision import Precision
from edgekd.pipeline import Step

LEAST_COSINE = 0.95  # of a file's outputs with the network's; below it a person should look
_WEIGHTS_ALONE = "weights alone save bytes, not time; where time counts try static int8 or --dynamic"
# What to try where a file is slower than the float one that it was made of.
_INSTEAD: dict[Precision, str] = {
    "int8": "`edgekd diagnose {run}` shows which layers run in float and what rounding costs; try --dynamic where layers "
    "are linear or recurrent, or leave quantize out",
    "int8-dynamic": "try static int8, or leave it out",
    "int8-weights": _WEIGHTS_ALONE,
    "int4-weights": _WEIGHTS_ALONE,
    "ternary-weights": _WEIGHTS_ALONE,
    "fp16": "float16 saves bytes where the runtime computes in float32; leave half out where time counts",
    "int8+fp16": "try int8 without half",
}


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


def parity_remarks(parity: dict[str, Any]) -> list[str]:
    """Return a remark where the outputs of the written file are far from those of the network that it was made of."""
    if parity["cosine"] >= LEAST_COSINE:
        return []
    agreement = "" if parity.get("agreement") is None else f", {parity['agreement']:.0%} of the decisions are the same"
    return [
        f"the outputs of the file are far from those of {parity['against']}: mean cosine {parity['cosine']:.3f}{agreement}; do not "
        "use it before `edgekd diagnose`, or other settings, tell why"
    ]


def float_remarks(chain: Sequence[Step]) -> list[str]:
    """Return for every stage that rounds a file which nodes of it stay in float."""
    remarks = []
    for step in chain:
        notes = step.state.notes
        kept = list(notes.get("kept_float", ()))
        if not kept or notes.get("simulated"):
            continue
        nodes = onnx.load(str(step.file), load_external_data=False).graph.node
        counts = Counter(node.op_type for node in nodes if node.name in kept)
        if not counts:
            continue
        left = ", ".join(name if count == 1 else f"{count} {name}" for name, count in counts.most_common())
        unrounded = "float32" if step.state.lineage[-1] == "half" else "float"
        remarks.append(f"{step.name}: what stays in {unrounded}: {left}{_way_out(step, counts)}")
    return remarks


def _way_out(step: Step, counts: Counter[str]) -> str:
    if step.state.lineage[-1] == "quantize":
        return "; `edgekd diagnose` says why"
    recurrent = set(RECURRENT) & set(counts)
    if step.state.lineage[-1] == "quantize-weights" or not recurrent:
        return ""
    names = ", ".join(f'"{name}"' for name in sorted(recurrent))
    return f"; a stage quantize-weights with operators = [{names}] rounds its weights"
