"""Tiny networks, and what it takes to distill them without any file."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekd.context import Context
from edgekd.data import Dataset, Part, split
from edgekd.metrics import choose_metric
from edgekd.models.network import learn_outputs
from edgekd.models.signature import Signature, tensor_spec
from edgekd.request import silent
from edgekd.stages.distill import STAGE, DistillSettings
from edgekd.state import Base, ModelState, TorchForm
from edgekd.target import load_target
from edgekd.teachers.live import LiveTeacher
from edgekd.teachers.teacher import Teacher

N, CLASSES = 40, 4
_LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "vector": nn.Linear,
    "tokens": nn.Linear,
    "series": lambda inside, outside: nn.Conv1d(inside, outside, 3, padding=1),
    "map": lambda inside, outside: nn.Conv2d(inside, outside, 3, padding=1),
}
SIZES = {"vector": (5,), "tokens": (6, 5), "series": (5, 16), "map": (5, 6, 6)}  # of a sample
_POOLED = {"tokens": 1, "series": -1, "map": (-2, -1)}


class Net(nn.Module):
    """Layers under the names that the examples of methods tap; what comes out is pooled, but for a mask."""

    def __init__(self, shape: str, width: int, classes: int = CLASSES, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        layer = _LAYERS["map" if shape == "mask" else shape]
        self.blocks = nn.Sequential(layer(5, width), nn.Tanh(), layer(width, width), nn.Tanh())
        self.tokens, self.visual = layer(width, width), nn.Tanh()
        self.head = layer(width, classes)
        self._pooled: Any = _POOLED.get(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits: (N, classes), or of a mask (N, classes, 6, 6)."""
        x = self.head(self.visual(self.tokens(self.blocks(x))))
        return x if self._pooled is None else x.mean(self._pooled)


def random_inputs(*size: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((N, *size)).astype(np.float32)


def start(network: nn.Module, data: Dataset, task: Any, folder: Path, **further: Any) -> tuple[ModelState, Context]:
    """Return a network's first state and the context of a run with these data."""
    inputs = tuple(tensor_spec(name, one.shape[1:], str(one.dtype), "test") for name, one in data.inputs.items())
    signature = learn_outputs(network.eval(), Signature(inputs=inputs, task=task))
    target = load_target("generic-x86")[0]
    context = Context(
        target=target,
        runtime_name=target.default_runtime,
        signature=signature,
        parts=split(data, signature, calibration=8, validation=0.2, evaluation=0.1, largest_calibration=0.5),
        metric=choose_metric(None, task, labelled=data.targets is not None),
        **{
            "teachers": {}, "reference": lambda: network, "other_part": lambda source, wanted: None, "seed": 0,
            "device": "cpu", "threads": 1, "workdir": folder, "log": lambda message: None, "progress": silent, **further,
        },
    )  # fmt: skip
    return ModelState(signature, TorchForm(Base(lambda: copy.deepcopy(network), "0"), network)), context


def alive(network: nn.Module, name: str = "teacher") -> dict[str, Callable[[Part], Teacher]]:
    """Return what makes a network the teacher of a run."""
    return {name: lambda part: LiveTeacher(name, network, name, learn_outputs(network.eval(), part.signature))}


def checked(state: ModelState, context: Context, **settings: Any) -> DistillSettings:
    """Return the settings of an epoch in float32, checked."""
    stage = DistillSettings.model_validate({"epochs": 1, "batch_size": 8, "precision": "float32", **settings})
    assert STAGE.check is not None
    STAGE.check(stage, state, context)
    return stage


def distilled(state: ModelState, context: Context, **settings: Any) -> ModelState:
    """Check and run the stage."""
    return STAGE.run(state, checked(state, context, **settings), context)
