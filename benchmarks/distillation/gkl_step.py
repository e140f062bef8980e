"""What GKL adds to a step of distillation at 1000 classes: `python benchmarks/distillation/gkl_step.py`.

ResNet-8 (16, 32, 64) with 1000 classes learns from ResNet-8 (32, 64, 128) with 1000 classes, run live, in batches of 128;
both have their first weights, for time does not depend on them. The arms differ in the loss alone: KL at T = 4, or GKL as
`edgekd methods` lists it, from the first step on. Both make steps in turn, 48 each, the first 8 not timed.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from common import Arm, Clock, arguments, compare_steps, context, images

from edgekd.data import Part
from edgekd.models.networks.resnet8 import ResNet8
from edgekd.teachers.live import LiveTeacher
from edgekd.training.loop import Material, train
from edgekd.training.phase import Phase
from edgekd.training.settings import TrainingSettings

CLASSES, BATCH, STEPS, WARM_UP = 1000, 128, 48, 8
ARMS = {"kl": {"kind": "kl", "temperature": 4.0}, "gkl": {"kind": "gkl", "weight": 1.0}}


def distill(part: Part, teacher: LiveTeacher, loss: dict[str, object], precision: str, clock: Clock) -> None:
    """Train an epoch with this loss."""
    torch.manual_seed(0)
    student = ResNet8((16, 32, 64), num_classes=CLASSES, in_channels=1)
    settings = TrainingSettings.model_validate({"epochs": 1, "batch_size": BATCH, "precision": precision})
    phase = Phase.model_validate({"losses": [loss]})
    train(student, (phase,), Material(part, (), {"teacher": teacher}), settings, context(part, 0, clock), "gkl")


def main() -> None:
    """Time both, in float32 and bfloat16."""
    given = arguments(__doc__, rounds=20)
    part, _ = images(BATCH * STEPS)
    targets = np.random.default_rng(0).integers(CLASSES, size=len(part.dataset))
    part = replace(part, dataset=replace(part.dataset, targets=targets, labels=None))
    torch.manual_seed(1)
    network = ResNet8((32, 64, 128), num_classes=CLASSES, in_channels=1).eval()
    teacher = LiveTeacher("teacher", network, "random", part.signature)

    def arms(precision: str) -> dict[str, Arm]:
        return {name: partial(distill, part, teacher, loss, precision) for name, loss in ARMS.items()}

    compare_steps("gkl_step", "GKL against KL at 1000 classes (aim: less than 5 % more)", arms, given.rounds, WARM_UP)


if __name__ == "__main__":
    main()
