"""What it takes to rewrite a network without any file, and tiny networks to rewrite."""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.context import Context
from edgekd.data import Dataset, split
from edgekd.metrics import choose_metric
from edgekd.models.network import example_inputs, learn_outputs, run_network
from edgekd.models.signature import Signature, tensor_spec
from edgekd.request import silent
from edgekd.stages.rewrite import STAGE, RewriteSettings
from edgekd.state import Base, ModelState, TorchForm, load_state, save_state
from edgekd.target import load_target

SAMPLES = 48


def begin(
    network: nn.Module,
    folder: Path,
    *shapes: tuple[int, ...],
    names: tuple[str, ...] = ("x",),
    target: str = "raspberry-pi-5",
    log: Callable[[str], None] = lambda message: None,
) -> tuple[ModelState, Context]:
    """Return a network's first state and a context of random data for a target that is not this machine."""
    generator = np.random.default_rng(0)
    inputs = {
        name: generator.standard_normal((SAMPLES, *shape)).astype(np.float32)
        for name, shape in zip(names, shapes, strict=True)
    }
    specs = tuple(tensor_spec(name, array.shape[1:], "float32", "test") for name, array in inputs.items())
    signature = learn_outputs(network.eval(), Signature(inputs=specs))
    data = Dataset(inputs, np.arange(SAMPLES) % 4, None)
    profile = load_target(target)[0]
    context = Context(
        target=profile,
        runtime_name=profile.default_runtime,
        signature=signature,
        parts=split(data, signature, calibration=16, validation=0.25, evaluation=0.2),
        metric=choose_metric("accuracy", "classification", labelled=True),
        teachers={},
        reference=None,
        other_part=lambda source, wanted: None,  # type: ignore[arg-type, return-value]
        seed=0,
        device="cpu",
        threads=1,
        workdir=folder,
        log=log,
        progress=silent,
    )
    start = copy.deepcopy(network)
    return ModelState(signature, TorchForm(Base(lambda: copy.deepcopy(start), "0"), network)), context


def settings(*rewrites: Any, **further: Any) -> RewriteSettings:
    """Return the settings of a stage."""
    return RewriteSettings.model_validate({"rewrites": rewrites, **further})


def rewritten(state: ModelState, context: Context, *rewrites: Any, **further: Any) -> ModelState:
    """Check and run the stage."""
    chosen = settings(*rewrites, **further)
    STAGE.check(chosen, state, context)
    context.workdir.mkdir(exist_ok=True)
    return STAGE.run(state, chosen, replace(context, workdir=Path(tempfile.mkdtemp(dir=context.workdir))))


def outputs(state: ModelState) -> Tensor:
    """Return a torch state's first output for the inputs that tests run everything on."""
    with torch.no_grad():
        return next(iter(run_network(state.torch.module, example_inputs(state.signature, 5)).values()))


def stored(state: ModelState, folder: Path) -> ModelState:
    """Save a torch state and load it again."""
    folder.mkdir()
    save_state(state, folder)
    return load_state(folder, state.torch.base)


def lively(network: nn.Module) -> nn.Module:
    """Give every batch norm statistics and factors of its own, some of them negative, as after a training."""
    torch.manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            assert layer.running_var is not None
            nn.init.normal_(layer.running_mean, 0, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            if layer.affine:
                nn.init.uniform_(layer.weight, -0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.2)
    return network


def elsewhere(context: Context, **limits: Any) -> Context:
    """Return the context with other limits of the target."""
    changed = context.target.limits.model_copy(update=limits)
    return replace(context, target=context.target.model_copy(update={"limits": changed}))


class RepVGG(nn.Module):
    """A 3x3, a 1x1 convolution and a shortcut, each with its batch norm, added up; twice."""

    def __init__(self, *, in_place: bool = False) -> None:
        super().__init__()
        self.in_place = in_place
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "dense": nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)),
                    "point": nn.Sequential(nn.Conv2d(6, 6, 1, bias=False), nn.BatchNorm2d(6)),
                    "shortcut": nn.BatchNorm2d(6),
                }
            )
            for _ in range(2)
        )
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            assert isinstance(block, nn.ModuleDict)
            y = block["dense"](x)
            if self.in_place:
                y += block["point"](x)
                y += block["shortcut"](x)
                x = y.relu()
            else:
                x = (y + block["point"](x) + block["shortcut"](x)).relu()
        return self.head(x.mean((2, 3)))
