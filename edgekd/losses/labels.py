"""Labels of classes as a step has them, and which elements count."""

import torch
from torch import Tensor

from edgekd.errors import InputError
from edgekd.losses.step import Step


def elements_that_count(step: Step, values: Tensor) -> Tensor:
    """Return which values (N, ...) count, a boolean tensor of their shape; a sample counts if any of its positions does."""
    valid = step.valid
    if valid is None:
        return torch.ones_like(values, dtype=torch.bool)
    if valid.ndim == 1:
        return valid.reshape(-1, *[1] * (values.ndim - 1)).expand_as(values)
    if values.ndim == 1:
        return valid.flatten(1).any(1)
    return valid if valid.shape == values.shape else torch.ones_like(values, dtype=torch.bool)


def class_labels(step: Step, shape: torch.Size) -> Tensor | None:
    """Return the labels of elements of that shape, -1 where there is none; None if the targets are no such classes."""
    targets = step.targets
    if targets is None or targets.is_floating_point() or targets.shape != shape:
        return None
    return torch.where(elements_that_count(step, targets), targets.long(), -1)


def known_labels(step: Step, kind: str) -> Tensor:
    """Return the labels of a step (N, ...), -1 where there is none.

    Raises:
        InputError: the step has no labels, or values that are no classes; `kind` is the method's that needs them.
    """
    if step.targets is None:
        raise InputError(f"{kind}: needs labels, and this phase's data have none or mixup mixes them; set mixup = 0")
    labels = class_labels(step, step.targets.shape)
    if labels is None:
        raise InputError(f"{kind}: needs labels of classes, and the targets are values; it is for classifiers")
    return labels


def sample_labels(step: Step, kind: str) -> Tensor:
    """Return the labels of a step's samples (N,), -1 where there is none.

    Raises:
        InputError: the step has no labels, values that are no classes, or labels of positions.
    """
    labels = known_labels(step, kind)
    if labels.ndim != 1:
        raise InputError(f"{kind}: needs one label a sample, and these data label every position; use kl or hint")
    return labels
