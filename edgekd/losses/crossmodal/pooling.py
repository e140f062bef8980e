"""Features, labels and losses of whole samples."""

from torch import Tensor

from edgekd.errors import InputError
from edgekd.losses.feature.positions import mean_where
from edgekd.losses.step import Step


def pooled(feature: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return one vector a sample (N, D): vectors as they are, means over the positions of tokens (N, L, D) or maps (N, D, ...).

    Of tokens only those that count by `valid` (N, L) are averaged.
    """
    if feature.ndim == 3:
        return feature.mean(1) if valid is None or valid.shape != feature.shape[:2] else mean_where(feature, valid)
    return feature.flatten(2).mean(2) if feature.ndim > 3 else feature


def sample_mean(values: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean of every sample (N,) of values (N, ...), over the positions that `valid` (N, ...) leaves in."""
    if values.ndim == 1:
        return values
    if valid is None or valid.shape != values.shape:
        return values.flatten(1).mean(1)
    counted = valid.to(values.dtype)
    return (values * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)


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


def sample_labels(step: Step, kind: str) -> Tensor:
    """Return the labels of a step's samples (N,), -1 where there is none.

    Raises:
        InputError: the step has no labels, values that are no classes, or labels of positions.
    """
    labels = known_labels(step, kind)
    if labels.ndim != 1:
        raise InputError(f"{kind}: needs one label a sample, and these data label every position; use kl or hint")
    return labels
