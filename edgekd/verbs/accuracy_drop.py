"""The limit that a quantize stage holds by its search: its verdicts, and how far the samples suffice to tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekd import host
from edgekd.budget import Budget, Verdict, verdict_on
from edgekd.context import Context
from edgekd.data import Part
from edgekd.evaluate import deciding_metric, right_decisions, run_onnx
from edgekd.figures import Figure
from edgekd.files import sha256
from edgekd.metrics import Metric, drop_interval
from edgekd.pipeline import Step
from edgekd.run import Run


@dataclass(frozen=True)
class Limit:
    """A limit on how much worse the metric of a file may be than that of another one, on a part of the data."""

    name: str
    part_name: str
    most: float
    before: Step
    after: Step


def stage_verdicts(chain: Sequence[Step], comparisons: dict[str, dict[str, Any]], context: Context) -> list[Verdict]:
    """Return two verdicts for every stage with an `accuracy_drop`: on validation, which decided, and on evaluation."""
    found, on = [], host.describe(host.this_machine())
    for step, held in _holding(chain):
        drops = {"validation": held["reached"], "evaluation": -comparisons[step.name]["against_parent"]["score"]}
        for name, drop in drops.items():
            part = _part(context, name)
            unit = deciding_metric(context.metric, part).unit
            figure = Figure(unit, drop, "measured", on, samples=len(part))
            found.append(verdict_on(_name(step, name), held["most"], figure))
    return found


def limits_on_accuracy(chain: Sequence[Step], budget: Budget) -> list[Limit]:
    """Return the limits on the metric: those of stages against their parents, and the budget's against the baseline."""
    parents = dict(zip([step.name for step in chain[1:]], chain, strict=False))
    found = [
        Limit(_name(step, name), name, held["most"], parents[step.name], step)
        for step, held in _holding(chain)
        for name in ("validation", "evaluation")
    ]
    if budget.accuracy_drop is not None:
        found.append(Limit("accuracy_drop", "evaluation", budget.accuracy_drop, chain[0], chain[-1]))
    return found


def missed_remarks(chain: Sequence[Step], verdicts: Sequence[Verdict]) -> list[str]:
    """Return for every stage that missed its limit what was reached, and what to do."""
    outcomes = {verdict.limit: verdict for verdict in verdicts}
    remarks = []
    for step, held in _holding(chain):
        decided, told = (outcomes[_name(step, name)] for name in ("validation", "evaluation"))
        count = len(held["layers_in_float"])
        with_layers = f"with {count} layer{'' if count == 1 else 's'} taken back to float"
        if decided.outcome == "fail":
            remarks.append(
                f"{step.name}: accuracy_drop = {held['most']:g} is missed: the best file drops {_of(decided.figure)} "
                f"{with_layers}, and is kept; `edgekd diagnose` shows what costs accuracy; try all calibrators, or "
                "simulate = true with distill behind it, or allow more"
            )
        elif told.outcome == "fail":
            remarks.append(
                f"{step.name}: accuracy_drop = {held['most']:g} holds on the {decided.figure.samples} validation samples that "
                f"decide, {with_layers}, and is missed on evaluation: {_of(told.figure)}; a larger [data] validation "
                "decides better"
            )
    return remarks


def sample_remarks(run: Run, limits: Sequence[Limit], reference: Step, context: Context) -> list[str]:
    """Return for every limit that the samples cannot tell from the drop how few they are.

    The metric's interval is known where a sample is right or wrong.
    """
    remarks = []
    for limit in limits:
        part = _part(context, limit.part_name)
        metric = deciding_metric(context.metric, part)
        low, high = _interval(run, limit, reference, part, metric, context)
        if low is not None and high is not None and low < limit.most < high:
            remarks.append(
                f"{limit.name} <= {limit.most:g}: {len(part)} samples, of which one is worth {100 / len(part):.2g} points, "
                f"cannot tell: the 95 % interval of the drop is {low:.2f} to {high:.2f}; give more data, or a larger "
                f"[data] {limit.part_name}"
            )
    return remarks


def _interval(
    run: Run, limit: Limit, reference: Step, part: Part, metric: Metric, context: Context
) -> tuple[float, float] | tuple[None, None]:
    """Return the paired 95 % interval of a drop, which is remembered."""
    runtime = host.runtime_here(context.runtime_name)
    files = {"before": limit.before.file, "after": limit.after.file, "reference": reference.file}

    def measure() -> tuple[float, float] | tuple[None, None]:
        outputs = {name: run_onnx(path, part, context.threads, runtime=runtime) for name, path in files.items()}
        before, after = (
            right_decisions(outputs[name], outputs["reference"], part, metric) for name in ("before", "after")
        )
        if before is None or after is None:
            return None, None
        return drop_interval(before, after)

    if not metric.share:
        return None, None
    key = {
        "files": {name: sha256(path) for name, path in files.items()},
        "runtime": [runtime, host.describe(host.this_machine())],
        "metric": metric.identity,
        "data": part.dataset.digest(),
        "part": part.indices.tolist(),
    }
    low, high = run.remembered("drop", key, measure)
    return low, high


def _holding(chain: Sequence[Step]) -> list[tuple[Step, dict[str, Any]]]:
    return [(step, step.state.notes["accuracy_drop"]) for step in chain if "accuracy_drop" in step.state.notes]


def _part(context: Context, name: str) -> Part:
    return context.parts.validation if name == "validation" else context.parts.evaluation


def _name(step: Step, part_name: str) -> str:
    return f"{step.name}.accuracy_drop on {part_name}"


def _of(figure: Figure) -> str:
    unit = "points" if figure.unit == "%" else figure.unit
    return f"{figure.value:.3g} {unit}".rstrip() + f" on {figure.samples} samples"
