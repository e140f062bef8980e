"""The pipeline: stages run in order, each output stored in the run; and the arms that a distillation must beat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekd.context import Context
from edgekd.recipe import StageSettings
from edgekd.request import Prepared
from edgekd.run import Run, stage_folder, stage_key
from edgekd.stages import STAGES
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.distill.stage import without_teacher
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.state import ModelState, OnnxForm, TorchForm


@dataclass(frozen=True)
class Step:
    """A state on the way, the key of its stage, and the ONNX file that it is evaluated and timed as."""

    name: str
    key: str
    state: ModelState
    file: Path


def run_stages(run: Run, prepared: Prepared, context: Context) -> list[Step]:
    """Run, or take from the run directory, the baseline and every stage."""
    state = prepared.opened.state
    stored, key = _stored(run, prepared, "baseline", _baseline_ingredients(prepared), lambda workdir: state)
    chain = [Step("baseline", key, stored, _onnx_of(run, "baseline", key, stored, context))]
    for settings in prepared.recipe.stages:
        before = chain[-1]

        def make(workdir: Path, before: Step = before, settings: StageSettings = settings) -> ModelState:
            stage = STAGES[type(settings)]
            run.log(f"{settings.kind}: {stage.describe(settings, context)}")
            return stage.run(before.state, settings, replace(context, workdir=workdir))

        kind = settings.kind
        stored, key = _stored(run, prepared, kind, _ingredients(prepared, context, before, settings), make)
        count = sum(step.state.lineage[-1:] == (kind,) for step in chain)
        name = f"{kind}-{count + 1}" if count else kind
        chain.append(Step(name, key, stored, _onnx_of(run, kind, key, stored, context)))
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
        "teacher": prepared.teacher.identity if prepared.teacher and uses.get("teacher") else None,
    }


def _stored(
    run: Run, prepared: Prepared, name: str, ingredients: dict[str, Any], make: Callable[[Path], ModelState]
) -> tuple[ModelState, str]:
    form = prepared.opened.state.form
    base = form.base if isinstance(form, TorchForm) else None

    def remake(workdir: Path) -> ModelState:
        for old in (run.directory / "onnx").glob(f"{name}-{stage_key(ingredients)[:16]}-*"):
            old.unlink()
        return make(workdir)

    return run.stage(name, ingredients, base, remake)


def _onnx_of(run: Run, name: str, key: str, state: ModelState, context: Context) -> Path:
    """Return the ONNX file that a state is evaluated and timed as; a torch state's is written once."""
    if isinstance(state.form, OnnxForm):
        return state.form.path
    opset = context.runtime.opset
    path = run.directory / "onnx" / f"{name}-{key[:16]}-opset{opset or 'default'}.onnx"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".partial-{path.name}")
        write_onnx(state.form.module, state.signature, partial, opset=opset)
        partial.replace(path)
    return path


def run_arms(run: Run, prepared: Prepared, context: Context, chain: Sequence[Step]) -> dict[str, Step]:
    """Run the arms that the last distillation must beat, and the stages after it; return their last steps.

    `without-distillation` has the same start, data, epochs and seed but labels only; `from-scratch` new weights too.
    """
    stages = prepared.recipe.stages
    positions = [i for i, settings in enumerate(stages) if isinstance(settings, DistillSettings)]
    if not positions:
        return {}
    position = positions[-1]
    arms = {}
    for name, from_scratch in (("without-distillation", False), ("from-scratch", True)):
        step = chain[position]  # the distillation's parent: the baseline is the first of the chain
        for number in range(position, len(stages)):
            step = _arm_step(run, prepared, context, step, name, number, from_scratch=from_scratch)
        arms[name] = step
    return arms


def _arm_step(
    run: Run, prepared: Prepared, context: Context, before: Step, arm: str, number: int, *, from_scratch: bool
) -> Step:
    settings = prepared.recipe.stages[number]

    def make(workdir: Path) -> ModelState:
        if isinstance(settings, DistillSettings):
            return without_teacher(before.state, settings, context, from_scratch=from_scratch)
        return STAGES[type(settings)].run(before.state, settings, replace(context, workdir=workdir))

    ingredients = {**_ingredients(prepared, context, before, settings), "arm": arm}
    name = arm if isinstance(settings, DistillSettings) else f"{arm}-{settings.kind}"
    state, key = _stored(run, prepared, name, ingredients, make)
    return Step(name, key, state, _onnx_of(run, name, key, state, context))
