"""A step of the engine against the same step in a hand-written PyTorch loop: `python benchmarks/distillation/overhead.py`.

Both train ResNet-8 (16, 32, 64) towards the example's network, run live, with KL at T = 4: the same images, augmentations,
batches of 128, SGD with one cycle, clipping, memory layout and precision. Both make steps in turn, in a training of two
epochs of 24 steps; times are taken from the 9th step on, with the loading of batches and the epoch's end in them.
"""

from functools import partial

import numpy as np
import torch
from common import Arm, Clock, arguments, compare_steps, context, example_network, images
from torch import nn
from torch.nn import functional

from edgekd.data import Part
from edgekd.models.networks.resnet8 import ResNet8
from edgekd.teachers.live import LiveTeacher
from edgekd.training.loop import Material, train
from edgekd.training.phase import Phase
from edgekd.training.settings import TrainingSettings

BATCH, STEPS, EPOCHS, WARM_UP, TEMPERATURE, RATE = 128, 24, 2, 8, 4.0, 0.1
PHASE = Phase.model_validate({"losses": [{"kind": "kl", "temperature": TEMPERATURE}]})


def student() -> nn.Module:
    """Return the student with its first weights."""
    torch.manual_seed(0)
    return ResNet8((16, 32, 64), num_classes=10, in_channels=1)


def engine(part: Part, teacher: LiveTeacher, precision: str, clock: Clock) -> None:
    """Train with the engine."""
    settings = TrainingSettings.model_validate({"epochs": EPOCHS, "batch_size": BATCH, "precision": precision})
    material = Material(part, part.dataset.augmentations, {"teacher": teacher})
    train(student(), (PHASE,), material, settings, context(part, 0, clock), "overhead")


def by_hand(data: np.ndarray, labels: np.ndarray, teacher: nn.Module, precision: str, clock: Clock) -> None:
    """Train with a loop written by hand; `data` are bytes (N, 1, 28, 28)."""
    network = student().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=EPOCHS * STEPS, pct_start=0.2, cycle_momentum=False
    )
    half = precision == "bfloat16"
    for _ in range(EPOCHS):
        order = np.random.permutation(len(data))
        total = 0.0
        for step in range(STEPS):
            batch = order[step * BATCH : (step + 1) * BATCH]
            x = torch.from_numpy(((data[batch].astype(np.float32) / 255) - 0.286) / 0.353)
            _targets = torch.from_numpy(labels[batch])
            flip = torch.rand(len(x)) < 0.5
            x = torch.where(flip[:, None, None, None], x.flip(-1), x)
            top, left = torch.randint(0, 5, (2,)).tolist()
            x = functional.pad(x, (2, 2, 2, 2), mode="replicate")[:, :, top : top + 28, left : left + 28]
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                with torch.no_grad():
                    wanted = teacher(x)
                logits = network(x)
            loss = TEMPERATURE**2 * functional.kl_div(
                (logits.float() / TEMPERATURE).log_softmax(1),
                (wanted.float() / TEMPERATURE).log_softmax(1),
                reduction="batchmean",
                log_target=True,
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
            clock.end_step()


def main() -> None:
    """Time both, in float32 and bfloat16."""
    given = arguments(__doc__, rounds=20)
    part, _ = images(BATCH * STEPS)
    data = np.ascontiguousarray(part.dataset.inputs["image"][part.indices])
    labels = part.targets
    assert labels is not None
    network = example_network().to(memory_format=torch.channels_last)
    teacher = LiveTeacher("teacher", network, "example", part.signature)

    def arms(precision: str) -> dict[str, Arm]:
        return {
            "by hand": partial(by_hand, data, labels, network, precision),
            "engine": partial(engine, part, teacher, precision),
        }

    title = "A step of the engine against a hand-written loop (aim: at most 1.05)"
    compare_steps("overhead", title, arms, given.rounds, WARM_UP)


if __name__ == "__main__":
    main()
