"""The pipeline: stages run in order, each output stored in the run; and the arms that a distillation must beat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from edgekd.context import Context
from edgekd.files import sha256
from edgekd.models.source import open_model
from edgekd.request import Prepared
from edgekd.run import Run
from edgekd.stages import STAGES
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.distill.stage import without_teacher
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.state import ModelState, OnnxForm, TorchForm


@dataclass(frozen=True)
class Step:
    """A state on the way, the key of its stage, its ONNX file and its outputs' score."""

    name: str
    key: str
    state: ModelState
    file: Path


def run_stages(run: Run, prepared: Prepared, context: Context) -> list[Step]:
    """Run, or take from the run directory, the baseline and every stage."""
    opened, recipe = prepared.opened, prepared.recipe
    base = opened.state.form.base if isinstance(opened.state.form, TorchForm) else None
    identity = base.digest if base else sha256(opened.state.form.path)  # type: ignore[union-attr]
    data = prepared.dataset.digest()
    chain: list[Step] = []
    model = {"model": identity, "signature": opened.state.signature.model_dump(mode="json")}

    def make_baseline(workdir: Path) -> ModelState:
        return opened.state

    def add(name: str, ingredients: dict[str, Any], make: Callable[[Path], ModelState]) -> None:
        state, key = run.stage(
            name, ingredients, base, make, resume=prepared.request.resume, explain=prepared.request.explain
        )
        chain.append(Step(_unique(name, chain), key, state, _onnx_of(run, name, key, state, context)))

    add("baseline", model, make_baseline)
    for settings in recipe.stages:
        stage = STAGES[type(settings)]
        before = chain[-1]
        uses = stage.depends_on(settings, context)
        ingredients = {
            "parent": before.key,
            "settings": settings.model_dump(mode="json"),
            "seed": context.seed,
            "threads": context.threads,
            "uses": uses,
            "metric": context.metric.name,
            "cut": recipe.data.model_dump(mode="json"),
            "data": data if uses.get("data") else None,
            "teacher": _teacher_identity(prepared) if uses.get("teacher") else None,
        }

        def make(workdir: Path, before: Step = before, settings: Any = settings, stage: Any = stage) -> ModelState:
            run.log(f"{settings.kind}: {stage.describe(settings, context)}")
            return stage.run(before.state, settings, replace(context, workdir=workdir))

        add(settings.kind, ingredients, make)
    return chain


def _unique(name: str, chain: Sequence[Step]) -> str:
    count = sum(one.state.lineage[-1:] == (name,) for one in chain)
    return name if not count else f"{name}-{count + 1}"


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


def run_arms(run: Run, prepared: Prepared, context: Context, chain: Sequence[Step]) -> dict[str, list[Step]]:
    """Run the arms that the distillation must beat: without a teacher, and from scratch; then the stages after it."""
    arms: dict[str, list[Step]] = {}
    positions = [i for i, settings in enumerate(prepared.recipe.stages) if isinstance(settings, DistillSettings)]
    if not positions or not isinstance(chain[0].state.form, TorchForm):
        return arms
    position = positions[-1]
    settings = prepared.recipe.stages[position]
    assert isinstance(settings, DistillSettings)
    parent = chain[position]
    base = chain[0].state.form.base
    for name, scratch in (("without-distillation", False), ("from-scratch", True)):
        made: list[Step] = []
        todo: list[tuple[str, Callable[[ModelState, Context], ModelState]]] = [
            (name, lambda state, ctx, scratch=scratch: without_teacher(state, settings, ctx, from_scratch=scratch))
        ]
        for later in prepared.recipe.stages[position + 1 :]:
            todo.append((later.kind, lambda state, ctx, later=later: STAGES[type(later)].run(state, later, ctx)))
        before = parent
        for kind, act in todo:
            ingredients = {
                "parent": before.key,
                "arm": kind,
                "settings": [stage.model_dump(mode="json") for stage in prepared.recipe.stages],
                "seed": context.seed,
                "threads": context.threads,
                "data": prepared.dataset.digest(),
                "cut": prepared.recipe.data.model_dump(mode="json"),
                "metric": context.metric.name,
            }
            label = kind if kind == name else f"{name}-{kind}"
            state, key = run.stage(
                label,
                ingredients,
                base,
                lambda workdir, act=act, before=before: act(before.state, replace(context, workdir=workdir)),
                resume=prepared.request.resume,
                explain=prepared.request.explain,
            )
            before = Step(label, key, state, _onnx_of(run, label, key, state, context))
            made.append(before)
        arms[name] = made
    return arms


def _teacher_identity(prepared: Prepared) -> str | None:
    teacher = prepared.request.teacher
    if teacher is None:
        return None
    if isinstance(teacher, nn.Module):
        return open_model(
            teacher, replace(prepared.request.opening, inputs=prepared.opened.state.signature.inputs)
        ).state.torch.base.digest
    return sha256(Path(teacher))
