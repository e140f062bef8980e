"""The pipeline: stages run in order, each output stored in the run; and the arms that a distillation must beat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekd import processes
from edgekd.context import Context
from edgekd.recipe import StageSettings
from edgekd.request import Prepared
from edgekd.run import Run, stage_folder, stage_key
from edgekd.stages import STAGES, Stage
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.distill.stage import without_teacher
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.stages.export.prepared_writer import write_prepared
from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.state import ModelState, OnnxForm, PreparedForm
from edgekd.teachers.manifest import dropped_in


@dataclass(frozen=True)
class Step:
    """A state on the way, the key of its stage, and the ONNX file that it is evaluated and timed as."""

    name: str
    key: str
    state: ModelState
    file: Path


@dataclass(frozen=True)
class Places:
    """Where a stage may write while it is at work."""

    workdir: Path
    checkpoint: Path
    teacher_cache: Path

    def given_to(self, context: Context) -> Context:
        """Return the context with these places."""
        return replace(context, workdir=self.workdir, checkpoint=self.checkpoint, teacher_cache=self.teacher_cache)


def run_stages(run: Run, prepared: Prepared, context: Context, *, only_last_file: bool = False) -> list[Step]:
    """Run, or take from the run directory, the baseline and every stage.

    With `only_last_file` the ONNX file of the last one alone is written; the others' stay empty.
    """
    state = prepared.opened.state
    stored, key = _stored(run, prepared, "baseline", _baseline_ingredients(prepared), lambda places: state)
    last = len(prepared.recipe.stages)

    def file_of(position: int, kind: str, key: str, state: ModelState) -> Path:
        return Path() if only_last_file and position < last else _onnx_of(run, kind, key, state, context)

    chain = [Step("baseline", key, stored, file_of(0, "baseline", key, stored))]
    for position, settings in enumerate(prepared.recipe.stages, 1):
        before, stage = chain[-1], STAGES[type(settings)]

        def make(
            places: Places, before: Step = before, settings: StageSettings = settings, stage: Stage = stage
        ) -> ModelState:
            run.log(f"{settings.kind}: {stage.describe(settings, context)}")
            return stage.run(before.state, settings, places.given_to(context))

        kind = settings.kind
        stored, key = _stored(
            run,
            prepared,
            kind,
            _ingredients(prepared, context, before, settings),
            make,
            together=stage.learns(settings),
        )
        count = sum(step.state.lineage[-1:] == (kind,) for step in chain)
        name = f"{kind}-{count + 1}" if count else kind
        chain.append(Step(name, key, stored, file_of(position, kind, key, stored)))
    return chain


def stored_stages(prepared: Prepared, context: Context) -> list[bool]:
    """Return for every stage of the recipe whether the run directory has its output, without running anything."""
    before = Step("baseline", stage_key(_baseline_ingredients(prepared)), prepared.opened.state, Path())
    found = []
    for settings in prepared.recipe.stages:
        before = replace(before, key=stage_key(_ingredients(prepared, context, before, settings)))
        found.append(stage_folder(prepared.directory, settings.kind, before.key).is_dir())
    return found


def _baseline_ingredients(prepared: Prepared) -> dict[str, Any]:
    signature = prepared.opened.state.signature
    return {"model": prepared.opened.identity, "signature": signature.model_dump(mode="json")}


def _ingredients(prepared: Prepared, context: Context, before: Step, settings: StageSettings) -> dict[str, Any]:
    """Return everything that can change what a stage makes of its parent."""
    uses = STAGES[type(settings)].depends_on(settings, context)
    return {
        "parent": before.key,
        "settings": settings.model_dump(mode="json"),
        "seed": context.seed,
        "threads": context.threads,
        "uses": uses,
        "metric": context.metric.identity,
        "cut": [prepared.recipe.data.model_dump(mode="json"), context.parts.sizes()],
        "data": prepared.data_digest if uses.get("data") else None,
        "teacher": {name: one.identity for name, one in prepared.teachers.items()} if uses.get("teacher") else None,
        "dropped": dropped_in(_teacher_cache(prepared)) if uses.get("teacher") else None,
    }


def _teacher_cache(prepared: Prepared) -> Path:
    """Return the folder in which answers of teachers are kept, a folder a teacher."""
    return prepared.request.teacher_cache or prepared.directory / "teachers"


def _stored(
    run: Run,
    prepared: Prepared,
    name: str,
    ingredients: dict[str, Any],
    make: Callable[[Places], ModelState],
    *,
    together: bool = False,
) -> tuple[ModelState, str]:
    """Return a stage's output and its key; `make` is told where it may write meanwhile."""
    key = stage_key(ingredients)
    checkpoint = run.directory / "training" / f"{name}-{key[:16]}.pt"
    form = prepared.opened.state.form
    base = None if isinstance(form, OnnxForm) else form.base

    def remake(workdir: Path) -> ModelState:
        if processes.leads():
            for old in (run.directory / "onnx").glob(f"{name}-{key[:16]}-*"):
                old.unlink()
            if not prepared.request.resume:
                checkpoint.unlink(missing_ok=True)
        cache = _teacher_cache(prepared)
        return make(Places(workdir, checkpoint, cache))

    made = run.stage(name, ingredients, base, remake, together=together)
    if processes.leads():
        checkpoint.unlink(missing_ok=True)
    return made


def _onnx_of(run: Run, name: str, key: str, state: ModelState, context: Context) -> Path:
    """Return the ONNX file that a state is evaluated and timed as; that of a network or graph is written once."""
    if isinstance(state.form, OnnxForm):
        return state.form.path
    if not processes.leads():
        return Path()
    opset = context.runtime.opset
    path = run.directory / "onnx" / f"{name}-{key[:16]}-opset{opset or 'default'}.onnx"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".partial-{path.name}")
        if isinstance(state.form, PreparedForm):
            write_prepared(state.form.module, state.signature, partial, opset=opset)
        else:
            write_onnx(state.form.module, state.signature, partial, opset=opset)
        partial.replace(path)
    return path


def run_arms(run: Run, prepared: Prepared, context: Context, chain: Sequence[Step]) -> dict[str, Step]:
    """Run the arms that the last distillation must beat, and the stages after it; return their last steps.

    `without-distillation` has the same start, data, epochs and seed but labels only; `from-scratch` new weights too.
    Ranges of a fake-quantized graph do not fit new weights, so from scratch it is trained in float and quantized then.
    """
    stages = prepared.recipe.stages
    positions = [i for i, settings in enumerate(stages) if isinstance(settings, DistillSettings)]
    if not positions:
        return {}
    position = positions[-1]
    arms = {}
    for name, from_scratch in (("without-distillation", False), ("from-scratch", True)):
        step = chain[position]  # the distillation's parent: the baseline is the first of the chain
        ahead = list(stages[position:])
        if from_scratch and isinstance(step.state.form, PreparedForm):
            step = replace(step, state=step.state.floating())
            simulated = [one for one in stages[:position] if isinstance(one, QuantizeSettings)]
            ahead[1:1] = [one.model_copy(update={"simulate": False}) for one in simulated]
        for settings in ahead:
            step = _arm_step(run, prepared, context, step, name, settings, from_scratch=from_scratch)
        arms[name] = step
    return arms


def _arm_step(
    run: Run,
    prepared: Prepared,
    context: Context,
    before: Step,
    arm: str,
    settings: StageSettings,
    *,
    from_scratch: bool,
) -> Step:
    def make(places: Places) -> ModelState:
        here = places.given_to(context)
        if isinstance(settings, DistillSettings):
            return without_teacher(before.state, settings, here, from_scratch=from_scratch)
        return STAGES[type(settings)].run(before.state, settings, here)

    ingredients = {**_ingredients(prepared, context, before, settings), "arm": arm}
    name = arm if isinstance(settings, DistillSettings) else f"{arm}-{settings.kind}"
    together = STAGES[type(settings)].learns(settings)
    state, key = _stored(run, prepared, name, ingredients, make, together=together)
    return Step(name, key, state, _onnx_of(run, name, key, state, context))
