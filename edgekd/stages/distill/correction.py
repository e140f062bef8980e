"""Teacher correction: a teacher is fine-tuned on the data of the distillation before a student learns from it.

Source: Sreenivas et al., LLM Pruning and Distillation in Practice (Minitron), arXiv 2408.11796, section 2.2: a teacher of other
data than the student's guides it worse.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.files import digest
from edgekd.models.network import unfrozen
from edgekd.stages.distill.settings import DistillSettings
from edgekd.state import ModelState
from edgekd.teachers.live import LiveTeacher
from edgekd.teachers.teacher import Teacher
from edgekd.training.loop import Material, train, training_part
from edgekd.training.phase import Phase
from edgekd.training.task_loss import has_task_loss

_RATE = 0.1  # of the student's learning rate: the teacher is trained already. edgekd variant


def check_correction(teachers: Mapping[str, Teacher], state: ModelState, context: Context) -> None:
    """Refuse a correction of teachers that are no networks, that take or answer something else, or without labels.

    Raises:
        InputError: says which.
    """
    if not has_task_loss(state.signature.task, labelled=context.parts.train.targets is not None):
        raise InputError("teacher_correction trains on labels and the data have none; set it to 0")
    for name, teacher in teachers.items():
        if not isinstance(teacher, LiveTeacher):
            raise InputError(
                f"teacher_correction: the teacher {name} is no torch network (stored answers, ONNX files and functions cannot be "
                "trained); give the network itself, or set it to 0"
            )
        own = [(spec.name, spec.shape[1:]) for spec in teacher.signature.inputs]
        if own != [(spec.name, spec.shape[1:]) for spec in state.signature.inputs]:
            raise InputError(
                f"teacher_correction: the teacher {name} takes other inputs than the student, for which there are no labels; set it "
                "to 0"
            )


def corrected(teachers: Mapping[str, Teacher], settings: DistillSettings, context: Context) -> dict[str, Teacher]:
    """Return the teachers after a fine-tuning of their copies on the labels of the train part."""
    part = training_part(context.parts.train)
    phase = Phase.model_validate({"task": 1, "epochs": settings.teacher_correction})
    changes = {"learning_rate": settings.highest_rate * _RATE, "patience": None, "ema": None, "mixup": 0.0}
    course = settings.model_copy(update=changes)
    found: dict[str, Teacher] = {}
    for name, teacher in teachers.items():
        assert isinstance(teacher, LiveTeacher)
        network = unfrozen(copy.deepcopy(teacher.network))
        material = Material(part, part.dataset.augmentations)
        train(network, (phase,), material, course, replace(context, checkpoint=None), f"correct the teacher {name}")
        behind = [teacher.identity, course.model_dump(mode="json"), part.dataset.digest(), part.indices.tolist()]
        identity = digest([*behind, context.seed])
        found[name] = LiveTeacher(
            name, network, identity, teacher.signature, licence=teacher.licence, source=teacher.source
        )
    return found
