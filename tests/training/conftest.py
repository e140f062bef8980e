import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgekd.context import Context
from edgekd.data import Part
from edgekd.request import Request, prepare
from edgekd.teachers.live import LiveTeacher
from edgekd.training.history import History
from edgekd.training.loop import Material, train
from edgekd.training.phase import Phase
from edgekd.training.settings import TrainingSettings

SETTINGS = TrainingSettings(epochs=1, batch_size=64, precision="float32")


@pytest.fixture
def context(example: Path) -> Context:
    return prepare(Request(example / "model.pt", ("generic-x86",), threads=1)).contexts[0]


def phase(*losses: Any, **fields: Any) -> Phase:
    return Phase.model_validate({"losses": losses, **fields})


ONLY_TASK = phase(task=1.0)
BOTH = phase({"kind": "kl", "weight": 0.7, "temperature": 4}, task=0.3)


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


@pytest.fixture
def teach(context: Context) -> Callable[..., History]:
    """Train a network for a moment: `teach(student, phase, teacher=..., part=..., settings=...)`."""

    def run(student: nn.Module, *phases: Phase, teacher: nn.Module | None = None, **given: Any) -> History:
        here = given.pop("context", context)
        part: Part = given.pop("part", here.parts.train)
        settings = given.pop("settings", SETTINGS)
        teachers = (
            {} if teacher is None else {"teacher": LiveTeacher("teacher", copy.deepcopy(teacher), "0", part.signature)}
        )
        material = Material(part, teachers={**teachers, **given.pop("teachers", {})}, **given)
        return train(student, phases or (BOTH,), material, settings, here, "test")

    return run
