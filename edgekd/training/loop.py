"""The training loop."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from edgekd.context import Context
from edgekd.data import Part
from edgekd.data.dataset import Augmentation
from edgekd.errors import StageError
from edgekd.models.network import run_network
from edgekd.training.augment import augment
from edgekd.training.objective import Objective


class TrainingSettings(BaseModel):
    """How to train. `precision` auto takes bfloat16 autocast where the processor computes in it, else float32."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=4, ge=1, le=10_000, description="passes over the train part")
    batch_size: int = Field(default=128, ge=2, description="samples a step; of few samples a quarter is taken")
    learning_rate: float = Field(default=0.1, gt=0, description="the highest one; it rises, then falls to zero")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(default=5e-4, ge=0, description="of SGD")
    warmup: float = Field(default=0.2, gt=0, lt=1, description="share of the steps in which the learning rate rises")
    clip_gradient: float | None = Field(default=5.0, gt=0, description="longest gradient; a longer one is scaled down")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 where the processor computes in it"
    )


def computes_bfloat16(device: str) -> bool:
    """Return whether the device has fast bfloat16 arithmetic."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def chosen_device(device: str) -> str:
    """Return `cpu` or `cuda` for `auto`, `cpu` or `cuda`."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def chosen_precision(settings: TrainingSettings, device: str) -> str:
    """Return `float32` or `bfloat16`."""
    if settings.precision != "auto":
        return settings.precision
    return "bfloat16" if computes_bfloat16(chosen_device(device)) else "float32"


def batch_size(settings: TrainingSettings, samples: int) -> int:
    """Return the batch size asked for; of few samples a quarter, so that an epoch has steps enough."""
    return min(settings.batch_size, max(2, samples // 4))


def train(
    student: nn.Module,
    teacher: nn.Module | None,
    part: Part,
    objective: Objective,
    settings: TrainingSettings,
    augmentations: Sequence[Augmentation],
    context: Context,
    description: str,
) -> list[float]:
    """Train `student` in place with SGD and a one-cycle learning rate; return the mean loss of every epoch.

    The weights are those after the last step: with a learning rate that falls to zero they are the best ones.
    Same seed, device, threads and settings give the same weights.

    Raises:
        StageError: the loss is not finite, or there are less than two samples.
    """
    device = chosen_device(context.device)
    bfloat16 = chosen_precision(settings, device) == "bfloat16"
    size = batch_size(settings, len(part))
    steps = len(part) // size
    if not steps:
        raise StageError(f"{len(part)} training samples are too few")
    torch.manual_seed(context.seed)
    generator = torch.Generator().manual_seed(context.seed)
    layout = torch.channels_last if any(p.ndim == 4 for p in student.parameters()) else torch.contiguous_format
    _move(student, device, layout).train()
    if teacher is not None:
        _move(teacher, device, layout).eval().requires_grad_(False)
    optimizer = torch.optim.SGD(
        [parameter for parameter in student.parameters() if parameter.requires_grad],
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
    )
    total_steps = settings.epochs * steps + 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        settings.learning_rate,
        total_steps=total_steps,
        pct_start=settings.warmup if settings.warmup * total_steps > 1 else 0.0,  # a rise of no step divides by it
        cycle_momentum=False,
    )
    losses = []
    with context.progress(description, settings.epochs * steps) as advance:
        for epoch in range(settings.epochs):
            total = torch.zeros(())
            order = torch.randperm(len(part), generator=generator).numpy()
            for step in range(steps):
                positions = order[step * size : (step + 1) * size]
                inputs, targets = _batch(part, positions, augmentations, generator, device, layout)
                with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
                    wanted = None
                    if teacher is not None:
                        with torch.inference_mode():
                            wanted = run_network(teacher, inputs)
                        wanted = {name: tensor.clone() for name, tensor in wanted.items()}
                    outputs = run_network(student, inputs)
                loss = objective(outputs, wanted, targets, inputs)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                if settings.clip_gradient is not None:
                    nn.utils.clip_grad_norm_(student.parameters(), settings.clip_gradient)
                optimizer.step()
                schedule.step()
                total += loss.detach().cpu()
                advance(1)
            losses.append(float(total) / steps)
            if not math.isfinite(losses[-1]):
                raise StageError(f"the loss is {losses[-1]} after epoch {epoch + 1}; lower learning_rate")
            context.log(f"{description}: epoch {epoch + 1}/{settings.epochs}, loss {losses[-1]:.4f}")
    _move(student, "cpu", torch.contiguous_format).eval()
    return losses


@torch.no_grad()
def fresh(module: nn.Module) -> nn.Module:
    """Return a copy with newly initialized weights, layer by layer as torch does.

    Parameters that no layer initializes (a position embedding, for one) are drawn from a normal distribution of standard
    deviation 0.02, as in Dosovitskiy et al., 2021; vectors among them become 0 if they are biases, else 1.
    """
    module = copy.deepcopy(module)
    trained = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    for parameter in trained:
        parameter.fill_(math.nan)  # so that it shows what nothing initializes
    for layer in module.modules():
        for name in ("_reset_parameters", "reset_parameters"):
            reset = getattr(layer, name, None)
            if callable(reset):
                reset()
    for name, parameter in module.named_parameters():
        if parameter.is_floating_point() and parameter.isnan().any():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            else:
                parameter.fill_(0.0 if "bias" in name.rpartition(".")[2] else 1.0)
    return module


def training_part(part: Part) -> Part:
    """Return what of a part is trained on: all of it, for the task anomaly the samples that are known to be normal."""
    if part.signature.task != "anomaly" or part.targets is None:
        return part
    return replace(part, indices=part.indices[part.targets == 0])


def _move(module: nn.Module, device: str, layout: torch.memory_format) -> nn.Module:
    return module.to(device=device, memory_format=layout)  # type: ignore[call-overload,no-any-return]


def _batch(
    part: Part,
    positions: NDArray[np.intp],
    augmentations: Sequence[Augmentation],
    generator: torch.Generator,
    device: str,
    layout: torch.memory_format,
) -> tuple[dict[str, Tensor], Tensor | None]:
    inputs = {}
    for name, array in part.inputs(positions).items():
        tensor = torch.from_numpy(array).to(device)
        if tensor.ndim == 4:
            if augmentations and tensor.is_floating_point():
                tensor = augment(tensor, augmentations, generator)
            tensor = tensor.contiguous(memory_format=layout)
        inputs[name] = tensor
    targets = part.targets_at(positions)
    return inputs, None if targets is None else torch.from_numpy(targets).to(device)
