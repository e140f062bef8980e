"""The distill stage."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from edgekd import processes
from edgekd.context import Context
from edgekd.data import Part
from edgekd.errors import InputError
from edgekd.files import digest
from edgekd.recipe import StageSettings
from edgekd.stages.distill.correction import check_correction, corrected
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.stage import Stage, same_form
from edgekd.state import ModelState, TorchForm
from edgekd.teachers.cached import CachedTeacher
from edgekd.teachers.live import LiveTeacher
from edgekd.teachers.teacher import Teacher
from edgekd.training.augment import Variants
from edgekd.training.caching import cached
from edgekd.training.fresh import fresh
from edgekd.training.history import History
from edgekd.training.loop import BeforeStep, Material, check, train, training_part
from edgekd.training.phase import Phase
from edgekd.training.settings import batch_size, chosen_device, chosen_precision
from edgekd.training.task_loss import has_task_loss
from edgekd.training.validation import device_of, network_outputs, teachers_outputs, validation_score

FEWEST = 8  # samples to train on
ITSELF = "itself"  # the teacher's name where it is the model before it was compressed


def run(state: ModelState, settings: StageSettings, context: Context) -> ModelState:
    """Train the network towards its teachers.

    Raises:
        InputError: a method, a tap or a teacher does not fit the network or the data.
        StageError: training diverged.
    """
    assert isinstance(settings, DistillSettings)
    form, history = distilled(state, settings, context, "distill")
    return state.after("distill", form, history.to_notes())


def distilled(
    state: ModelState,
    settings: DistillSettings,
    context: Context,
    description: str,
    before_step: BeforeStep | None = None,
) -> tuple[Any, History]:
    """Return the form of a network after its training, and what happened; `before_step` changes its weights in between."""
    form = copy.deepcopy(_trainable(state))
    settings = _suited(settings, state)
    phases = settings.resolved(state.signature)
    teachers = _teachers(state, context)
    if settings.teacher_correction:
        teachers = corrected(teachers, settings, context)
    material = _material(state, settings, context, phases, teachers)
    material = replace(material, before_step=before_step)
    several = [phase.name for phase in phases if len(material.teachers) > 1 and _hears_the_first(phase)]
    if several:
        first, *others = material.teachers
        context.log(
            f"{description}: without a committee the losses on outputs of {', '.join(several)} learn from {first} alone, not from "
            f"{', '.join(others)}"
        )
    return form, train(form.module, phases, material, settings, context, description)


def _hears_the_first(phase: Phase) -> bool:
    """Return whether outputs of one teacher are compared, where several might be."""
    return phase.committee is None and any("teacher" in loss.needs for loss in phase.losses)


def without_teacher(
    state: ModelState, settings: DistillSettings, context: Context, *, from_scratch: bool
) -> ModelState:
    """Return the arm without distillation: the same start (or new weights), data, epochs and seed, labels only.

    Raises:
        InputError: the data have no labels to train on.
    """
    if not has_targets(state, context):
        raise InputError("the arms without a teacher need labels")
    torch.manual_seed(context.seed)
    form = copy.deepcopy(_trainable(state))
    settings = _suited(settings, state)
    if from_scratch:
        form = replace(form, module=fresh(form.module))
    name = "from scratch" if from_scratch else "without distillation"
    material = _material(state, settings, context, (), {})
    history = train(form.module, only_task(settings, state), material, settings, context, name)
    return state.after(name, form, history.to_notes())


def _suited(settings: DistillSettings, state: ModelState) -> DistillSettings:
    """Return the settings with what suits a fake-quantized graph where nothing is said.

    Its levels of eight bits are not exact in bfloat16, and it needs smaller steps than a network in float.
    """
    if state.form.kind != "prepared":
        return settings
    changes: dict[str, Any] = {"precision": "float32"} if settings.precision == "auto" else {}
    if settings.learning_rate is None:
        changes["learning_rate"] = settings.highest_rate / 5
    return settings.model_copy(update=changes)


def only_task(settings: DistillSettings, state: ModelState) -> tuple[Phase, ...]:
    """Return one phase with the epochs of all of them, in which the task's loss alone counts."""
    epochs = settings.total_epochs(state.signature)
    return (Phase.model_validate({"name": "distill", "task": 1.0, "epochs": epochs}),)


def _trainable(state: ModelState) -> Any:
    return state.form


def _teachers(state: ModelState, context: Context) -> dict[str, Teacher]:
    """Return the teachers asked for, else the network itself before it was compressed."""
    if context.teachers:
        part = training_part(context.parts.train)
        return {name: make(part) for name, make in context.teachers.items()}
    base = _trainable(state).base
    return {ITSELF: LiveTeacher(ITSELF, base.build(), base.digest, state.signature)}


def _material(
    state: ModelState,
    settings: DistillSettings,
    context: Context,
    phases: tuple[Phase, ...],
    teachers: Mapping[str, Teacher],
) -> Material:
    part = training_part(context.parts.train)
    if settings.teacher_inputs:
        for teacher in teachers.values():
            teacher.inputs = settings.teacher_inputs
    variants, plain = None, teachers
    if settings.teacher_cache != "off" and teachers:
        precision = chosen_precision(settings, chosen_device(context.device))
        variants = Variants(settings.cached_variants, len(part), context.seed)
        changes = part.dataset.augmentations
        teachers = cached(teachers, settings.teacher_cache, part, changes, variants, precision, context)
    elif part.dataset.augmentations and (
        stored := [n for n, one in teachers.items() if isinstance(one, CachedTeacher)]
    ):
        raise InputError(
            f"the cache {', '.join(stored)} holds answers to samples as they are, and these are changed at random; give the "
            "teacher itself with teacher_cache, or set augmentations = []"
        )
    return Material(
        part=part,
        augmentations=part.dataset.augmentations,
        teachers=teachers,
        phase_parts={phase.name: context.other_part(phase.data, None) for phase in phases if phase.data is not None},
        teacher_part=_teacher_part(settings, context, teachers),
        variants=variants,
        score=validation_score(context, plain if context.teachers else {}) if settings.patience is not None else None,
    )


def _teacher_part(settings: DistillSettings, context: Context, teachers: Mapping[str, Teacher]) -> Part | None:
    if settings.teacher_data is None or not teachers:
        return None
    first = next(iter(teachers.values()))
    signature = first.signature if isinstance(first, LiveTeacher) else context.signature
    return context.other_part(settings.teacher_data, signature)


def has_targets(state: ModelState, context: Context) -> bool:
    """Return whether there is something to train towards without a teacher: labels, or the input itself."""
    return has_task_loss(state.signature.task, labelled=context.parts.train.targets is not None)


def _depends_on(settings: StageSettings, context: Context) -> dict[str, object]:
    assert isinstance(settings, DistillSettings)
    device = chosen_device(context.device)
    named = [phase.data for phase in settings.phases if phase.data] + [settings.teacher_data or ""]
    others = [context.other_part(source, None).dataset.digest() for source in named if source]
    files = [one for phase in settings.resolved(context.signature) for one in phase.file_hashes()]
    return {
        "data": True,
        "teacher": True,
        "device": device,
        "precision": chosen_precision(settings, device),
        "processes": processes.count(),
        "other data": digest(others) if others else None,
        "files of methods": digest(files) if files else None,
    }


def _check(settings: StageSettings, state: ModelState, context: Context) -> None:
    """Refuse, before any work, what cannot be trained: too few samples, methods, taps and teachers that do not fit."""
    assert isinstance(settings, DistillSettings)
    count = len(training_part(context.parts.train))
    if count < FEWEST:
        raise InputError(f"{count} samples are left to train on; give more data, or lower [data] calibration")
    _check_augmentations(state, context)
    _check_mixup(settings, state, context)
    phases = settings.resolved(state.signature)
    for phase in phases:
        _check_phase(phase, state, context)
    if settings.teacher_correction:
        check_correction(_teachers(state, context), state, context)
    if isinstance(state.form, TorchForm):
        student = copy.deepcopy(state.form.module)
        material = _material(
            state, settings.model_copy(update={"teacher_cache": "off"}), context, phases, _teachers(state, context)
        )
        check(student, phases, material, settings, context)
        _check_yardstick(student, settings, context, material.teachers)


def _check_yardstick(
    student: nn.Module, settings: DistillSettings, context: Context, teachers: Mapping[str, Teacher]
) -> None:
    """Say what a fidelity compares with where another teacher is learned from; refuse patience without a yardstick."""
    if not context.metric.fidelity or not context.teachers:
        return
    context.log(
        f"distill: {context.metric.name} compares with the network before it was compressed, not with the teacher; a low one "
        "may be a success. Labelled data tell (`edgekd eval --data`)"
    )
    if settings.patience is not None:
        few = context.parts.validation.take(2)
        teachers_outputs(teachers, few, network_outputs(student.eval(), few), device_of(student))


def _check_phase(phase: Phase, state: ModelState, context: Context) -> None:
    part = context.parts.train if phase.data is None else context.other_part(phase.data, None)
    known = part.labelled()
    labelled = part.targets is not None and (known is None or bool(known.any()))
    needing = phase.needing_labels()
    if needing and not labelled:
        raise InputError(f"phase {phase.name}: {', '.join(needing)} needs labels and the data have none")
    if phase.gradient_filter is not None and part.dataset.groups is None:
        raise InputError(
            f"phase {phase.name}: {phase.gradient_filter.kind} needs groups (an array `groups` in the data)"
        )
    if phase.gradient_filter is not None and processes.count() > 1:
        raise InputError(
            f"phase {phase.name}: {phase.gradient_filter.kind} compares the groups of one process; run it without torchrun"
        )
    task = not phase.task.always_zero and has_task_loss(state.signature.task, labelled=labelled)
    losses = any(not loss.weight.always_zero for loss in phase.losses)
    if not task and not losses:
        raise InputError(
            f"phase {phase.name}: nothing is minimized; set task above 0 (with labels), or name losses with a weight"
        )


def _check_mixup(settings: DistillSettings, state: ModelState, context: Context) -> None:
    """Refuse to mix what cannot be mixed: whole numbers, and targets of further outputs."""
    if not settings.mixup:
        return
    whole = [spec.name for spec in state.signature.inputs if not spec.dtype.startswith("float")]
    further = [name for name in context.parts.train.dataset.extras if name.startswith("targets.")]
    if whole or further:
        what = f"the whole numbers of {', '.join(whole)}" if whole else f"{', '.join(further)} of further outputs"
        raise InputError(f"mixup cannot mix {what}; set mixup = 0")


def _check_augmentations(state: ModelState, context: Context) -> None:
    """Refuse to move an image and leave its mask, or the other image that belongs to it, where they are."""
    data, signature = context.parts.train.dataset, state.signature
    if not data.augmentations:
        return
    images = [spec.name for spec in signature.inputs if len(spec.shape) == 4]
    spatial = data.targets is not None and signature.task != "anomaly" and len(signature.outputs[0].shape) == 4
    extras = [name for name, array in data.extras.items() if array.ndim >= 3]
    if spatial or len(images) > 1 or extras:
        other = "its targets" if spatial else ", ".join(extras) or f"the other of {', '.join(images)}"
        raise InputError(
            f"the augmentations {', '.join(data.augmentations)} would move an image and not {other}; "
            "set [data] augmentations = []"
        )


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, DistillSettings)
    device = chosen_device(context.device)
    count = len(training_part(context.parts.train))
    phases = settings.resolved(context.signature)
    epochs = settings.total_epochs(context.signature)
    parts = "; ".join(_in_words(phase, several=len(phases) > 1) for phase in phases)
    precision = chosen_precision(settings, device)
    if settings.precision == "auto" and precision != "float32":
        precision += " (float32 where the network is fake-quantized)"
    batches = f"{count:,} samples in batches of {batch_size(settings, count)}"
    first = f"fine-tune the teachers for {settings.teacher_correction} epochs; " if settings.teacher_correction else ""
    return f"{first}train {epochs} epochs over {batches} towards {parts}, on {device} in {precision}"


def _in_words(phase: Phase, *, several: bool) -> str:
    terms = [f"{loss.weight} {name}" for loss, name in zip(phase.losses, phase.term_names, strict=True)]
    terms = ([] if phase.task.always_zero else [f"{phase.task} task"]) + terms
    head = f"{phase.name}: " if several else ""
    frozen = f" ({', '.join(phase.freeze)} frozen)" if phase.freeze else ""
    return f"{head}{' + '.join(terms)}{frozen}"


STAGE = Stage(DistillSettings, run, frozenset({"torch", "prepared"}), same_form, True, _depends_on, _check, _describe)
