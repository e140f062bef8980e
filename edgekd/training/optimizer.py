"""The optimizer and its learning rate over the steps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edgekd.training.settings import TrainingSettings


def make_optimizer(
    parameters: Sequence[nn.Parameter], settings: TrainingSettings, rate: float
) -> torch.optim.Optimizer:
    """Return the optimizer with its highest learning rate."""
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
    )


def make_schedule(optimizer: torch.optim.Optimizer, settings: TrainingSettings, total: int) -> Any:
    """Return the scheduler that moves the learning rate over `total` steps."""
    if settings.decay == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    if settings.decay == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        optimizer.param_groups[0]["lr"],
        total_steps=total,
        pct_start=settings.warmup if settings.warmup * total > 1 else 0.0,  # a rise of no step divides by it
        cycle_momentum=False,
    )
