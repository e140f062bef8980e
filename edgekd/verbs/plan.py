"""The plan: what would run, what is skipped and why, and roughly how long it takes; made before any work begins."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from edgekd import host
from edgekd.artifact import check_bytes
from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.evaluate import deciding_metric
from edgekd.models.network import example_inputs, run_network
from edgekd.pipeline import stored_stages
from edgekd.recipe import Recipe
from edgekd.request import Prepared
from edgekd.stages import STAGES
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.distill.stage import has_targets
from edgekd.stages.export import EXPORTERS
from edgekd.stages.prune.groups import prunable_groups
from edgekd.stages.prune.sensitivity import Sensitivity, sensitivity
from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.prune.stage import granularity
from edgekd.state import ModelState, TorchForm
from edgekd.verbs.duration import Course, seconds_of
from edgekd.verbs.subject import judgeable


@dataclass(frozen=True)
class Step:
    """One step of a plan: a stage or the export, in words, and a rough time in seconds (None: not known).

    `stored` says that the run directory has its output, which is taken from there.
    """

    name: str
    description: str
    seconds: float | None
    stored: bool = False


@dataclass(frozen=True)
class Plan:
    """What `compress` would do for one target. `problem` says why it cannot, or is None.

    `sensitivity` is that of the network as it is given, for the settings of the first prune stage, where it was asked for.
    """

    target: str
    runtime: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    problem: str | None
    sensitivity: Sensitivity | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "target": self.target,
            "runtime": self.runtime,
            "steps": [vars(step) for step in self.steps],
            "notes": list(self.notes),
            "problem": self.problem,
            "sensitivity": None if self.sensitivity is None else asdict(self.sensitivity),
        }


def check_order(state: ModelState, recipe: Recipe, context: Context, *, arms: bool = False) -> None:
    """Refuse an order of stages, an export or arms that cannot work, before any work.

    Raises:
        InputError: says which stage, why, and what to change.
    """
    if context.runtime_name not in EXPORTERS:
        usable = [name for name in context.target.runtime if name in EXPORTERS]
        way = f"; --runtime {usable[0]} is there for it" if usable else ""
        raise InputError(f"{context.target.name}: the export for {context.runtime_name} is not there yet{way}")
    if recipe.export.input == "uint8":
        check_bytes(state.signature, context.parts.evaluation.dataset)
    distills = any(isinstance(settings, DistillSettings) for settings in recipe.stages)
    if arms and distills and not has_targets(state, context):
        raise InputError("--arms trains without a teacher, on labels, and the data have none; leave it out")
    form, maker = state.form.kind, "the model is"
    precision = state.form.precision
    for number, settings in enumerate(recipe.stages, 1):
        stage = STAGES[type(settings)]
        try:
            precision = stage.becomes(settings, precision)
        except InputError as error:
            raise InputError(f"stage {number} ({settings.kind}): {error}") from error
        accepted = stage.takes(settings)
        if form not in accepted:
            hint = f"use --recipe {'quantize or ' if state.form.precision == 'fp32' else ''}export"
            if number > 1:
                hint = "prune and distill come before quantize, or set simulate = true in it"
                if settings.kind == "rewrite":
                    hint = "put rewrite before quantize, and what works on the torch network before what leaves an ONNX file"
            raise InputError(
                f"stage {number} ({settings.kind}) needs a {' or '.join(sorted(accepted))} network, {maker} {form}; {hint}"
            )
        if stage.learns(settings) and not len(context.parts.train):
            raise InputError(
                f"stage {number} ({settings.kind}) trains and no samples are left for it; give more data, or lower [data] calibration"
            )
        stage.check(settings, state, context)
        form, maker = stage.leaves(settings, form), f"{settings.kind} leaves"


def plan(prepared: Prepared, context: Context, *, sensitivity_samples: int | None = None) -> Plan:
    """Return what would run for one target; a problem is part of the plan, not an error.

    Args:
        prepared: the request.
        context: of the target.
        sensitivity_samples: of the validation part, to try every group that pruning may cut on; None: it is not tried.
    """
    state, recipe, budget = prepared.opened.state, prepared.recipe, prepared.budget
    problem = None
    try:
        check_order(state, recipe, context, arms=prepared.request.arms)
    except InputError as error:
        problem = str(error)
    rate = forward_seconds(state) if isinstance(state.form, TorchForm) and problem is None else None
    known = prepared.request.resume and problem is None and prepared.directory.is_dir()
    stored = stored_stages(prepared, context) if known else [False] * len(recipe.stages)
    steps = steps_of(prepared, context, rate, stored)
    exporter = EXPORTERS.get(context.runtime_name)
    steps.append(Step("export", exporter.description if exporter else "not there yet", 15.0 if exporter else None))
    sizes = context.parts.sizes()
    notes = [
        f"data: {context.parts.train.dataset.origin} ({context.parts.train.dataset.licence})",
        "parts: " + ", ".join(f"{count:,} {name}" for name, count in sizes.items()),
        f"metric: {context.metric.name}, on the evaluation part",
    ]
    if exporter is not None and exporter.remains is not None:
        notes.append(f"on the device: {exporter.remains}")
    if not host.is_target(context.target, host.this_machine()):
        notes.append(
            f"figures of {context.target.name} itself: absent, this machine is none; run.pyz profile obtains them there"
        )
        limits = [name for name in ("latency_ms", "energy_mj", "memory_mb") if getattr(budget, name) is not None]
        notes += [f"budget {name}: cannot be judged here, so the run will end with exit code 3" for name in limits]
    worth = None
    prune = next((settings for settings in recipe.stages if isinstance(settings, PruneSettings)), None)
    if sensitivity_samples is not None and prune is not None and problem is None:
        worth = _sensitivity(prune, state, context, sensitivity_samples)
    elif prune is not None:
        notes.append("prune: --sensitivity shows what every group of layers is worth")
    return Plan(context.target.name, context.runtime_name, tuple(steps), tuple(notes), problem, worth)


def _sensitivity(settings: PruneSettings, state: ModelState, context: Context, samples: int) -> Sensitivity:
    module = state.floating().torch.module
    metric = deciding_metric(context.metric, context.parts.validation)
    return sensitivity(
        module,
        state.signature,
        settings,
        granularity(settings, context),
        prunable_groups(module, state.signature, settings.keep, settings.axes),
        judgeable(context.parts.validation, metric).take(samples),
        metric,
        context.parts.calibration,
        context.progress,
    )


def steps_of(prepared: Prepared, context: Context, rate: float | None, stored: Sequence[bool]) -> list[Step]:
    """Return the stages of the recipe as steps; `rate` is `forward_seconds`, None where it is not known."""
    state = prepared.opened.state
    modules = state.torch.module.modules() if isinstance(state.form, TorchForm) else ()
    layers = sum(getattr(one, "weight", None) is not None for one in modules)
    steps, course = [], Course(state.signature, rate, layers)
    for settings, is_stored in zip(prepared.recipe.stages, stored, strict=True):
        stage = STAGES[type(settings)]
        try:
            description = stage.describe(settings, context)
        except InputError as error:
            description = str(error)
        seconds = seconds_of(settings, course, context)
        course = course.after(settings)
        seconds = 0.0 if is_stored else seconds
        steps.append(Step(settings.kind, description, None if seconds is None else round(seconds, 1), is_stored))
    return steps


@torch.no_grad()
def forward_seconds(state: ModelState) -> float:
    """Return the seconds that one sample takes forward, from the fastest of a few batches."""
    inputs = example_inputs(state.signature, 32)
    run_network(state.torch.module, inputs)
    fastest, until = float("inf"), time.perf_counter() + 0.5
    while time.perf_counter() < until:
        start = time.perf_counter()
        run_network(state.torch.module, inputs)
        fastest = min(fastest, time.perf_counter() - start)
    return fastest / 32
