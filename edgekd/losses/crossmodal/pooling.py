"""Features, labels and losses of whole samples."""

from torch import Tensor

from edgekd.errors import InputError
from edgekd.losses.step import Setup, Step


def pooled(feature: Tensor) -> Tensor:
    """Return one vector a sample (N, D): vectors as they are, means over the positions of tokens (N, L, D) or maps (N, D, ...)."""
    if feature.ndim == 3:
        return feature.mean(1)
    return feature.flatten(2).mean(2) if feature.ndim > 3 else feature


def sample_mean(values: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean of every sample (N,) of values (N, ...), over the positions that `valid` (N, ...) leaves in."""
    if values.ndim == 1:
        return values
    if valid is None or valid.shape != values.shape:
        return values.flatten(1).mean(1)
    counted = valid.to(values.dtype)
    return (values * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)


def class_count(setup: Setup) -> int | None:
    """Return the number of classes, None where there are none; one logit tells two classes apart."""
    return None if setup.classes is None else max(setup.classes, 2)


def known_labels(step: Step, kind: str) -> Tensor:
    """Return the labels of a step (N, ...), -1 where there is none.

    Raises:
        InputError: the step has no labels, or values that are no classes.
    """
    if step.targets is None:
        raise InputError(f"{kind}: needs labels, and this phase's data have none or mixup mixes them; set mixup = 0")
    if step.targets.is_floating_point():
        raise InputError(f"{kind}: needs labels of classes, and the targets are values; it is for classifiers")
    labels = step.targets.long()
    return labels if step.valid is None or step.valid.shape != labels.shape else labels.where(step.valid, -1)
