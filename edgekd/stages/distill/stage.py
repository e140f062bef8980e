"""The distill stage."""

import copy

import torch
from torch import nn

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.models.network import example_inputs, run_network
from edgekd.recipe import StageSettings
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.stage import Stage
from edgekd.state import ModelState, TorchForm
from edgekd.training.loop import batch_size, chosen_device, chosen_precision, fresh, train, training_part
from edgekd.training.objective import Objective

FEWEST = 8  # samples to train on


def run(state: ModelState, settings: StageSettings, context: Context) -> ModelState:
    """Train the network towards its teacher.

    Raises:
        InputError: the teacher's outputs differ from the student's in name or shape.
        StageError: training diverged.
    """
    assert isinstance(settings, DistillSettings)
    student = copy.deepcopy(state.torch.module)
    teacher = (context.teacher or state.torch.base.build)()
    check_outputs(student, teacher, state)
    objective = Objective(state.signature.task, _alpha(settings, state, context), settings.temperature)
    losses = _train(student, teacher, objective, settings, context, "distill")
    form = TorchForm(state.torch.base, student, state.torch.edits)
    return state.after("distill", form, {"loss": [round(loss, 6) for loss in losses]})


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
    student = fresh(state.torch.module) if from_scratch else copy.deepcopy(state.torch.module)
    objective = Objective(state.signature.task, 0.0, settings.temperature)
    name = "from scratch" if from_scratch else "without distillation"
    losses = _train(student, None, objective, settings, context, name)
    form = TorchForm(state.torch.base, student, state.torch.edits)
    return state.after(name, form, {"loss": [round(loss, 6) for loss in losses]})


@torch.no_grad()
def check_outputs(student: nn.Module, teacher: nn.Module, state: ModelState) -> None:
    """Check that a teacher answers in the student's shapes.

    Raises:
        InputError: it does not, or does not take the student's inputs.
    """
    inputs = example_inputs(state.signature)
    wanted = {name: tuple(tensor.shape[1:]) for name, tensor in run_network(student, inputs).items()}
    try:
        given = {name: tuple(tensor.shape[1:]) for name, tensor in run_network(teacher, inputs).items()}
    except Exception as error:
        raise InputError(f"the teacher does not take the student's inputs: {error}") from error
    if given != wanted:
        raise InputError(f"the teacher's outputs {given} are not the student's {wanted}")


def _train(
    student: nn.Module,
    teacher: nn.Module | None,
    objective: Objective,
    settings: DistillSettings,
    context: Context,
    description: str,
) -> list[float]:
    part = training_part(context.parts.train)
    return train(student, teacher, part, objective, settings, part.dataset.augmentations, context, description)


def has_targets(state: ModelState, context: Context) -> bool:
    """Return whether there is something to train towards without a teacher: labels, or the input itself."""
    return context.parts.train.targets is not None or state.signature.task == "anomaly"


def _alpha(settings: DistillSettings, state: ModelState, context: Context) -> float:
    return settings.alpha if has_targets(state, context) else 1.0


def _depends_on(settings: StageSettings, context: Context) -> dict[str, object]:
    assert isinstance(settings, DistillSettings)
    device = chosen_device(context.device)
    return {"data": True, "teacher": True, "device": device, "precision": chosen_precision(settings, device)}


def _check(settings: StageSettings, state: ModelState, context: Context) -> None:
    """Refuse a handful of samples, augmentations that part a sample from its target, and an unlike teacher."""
    assert isinstance(settings, DistillSettings)
    count = len(training_part(context.parts.train))
    if count < FEWEST:
        raise InputError(f"{count} samples are left to train on; give more data, or lower [data] calibration")
    _check_augmentations(state, context)
    if context.teacher is not None and isinstance(state.form, TorchForm):
        check_outputs(state.form.module, context.teacher(), state)


def _check_augmentations(state: ModelState, context: Context) -> None:
    """Refuse to move an image and leave its mask, or the other image that belongs to it, where they are."""
    data, signature = context.parts.train.dataset, state.signature
    if not data.augmentations:
        return
    images = [spec.name for spec in signature.inputs if len(spec.shape) == 4]
    spatial = data.targets is not None and signature.task != "anomaly" and len(signature.outputs[0].shape) == 4
    if spatial or len(images) > 1:
        other = "its targets" if spatial else f"the other of {', '.join(images)}"
        raise InputError(
            f"the augmentations {', '.join(data.augmentations)} would move an image and not {other}; "
            "set [data] augmentations = []"
        )


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, DistillSettings)
    device = chosen_device(context.device)
    count = len(training_part(context.parts.train))
    return (
        f"train {settings.epochs} epochs over {count:,} samples in batches of {batch_size(settings, count)}, "
        f"{settings.alpha:.0%} towards the teacher at T = {settings.temperature:g}, on {device} in {chosen_precision(settings, device)}"
    )


STAGE = Stage(DistillSettings, run, frozenset({"torch"}), "torch", True, _depends_on, _check, _describe)
