"""Features, labels and losses of whole samples."""

from collections.abc import Mapping

from torch import Tensor

from edgekd.errors import InputError
from edgekd.losses.step import Answer, Step


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


def feature_of(teachers: Mapping[str, Answer], tap: str) -> Tensor | None:
    """Return the feature at a tap of the first teacher that has it; None where that teacher was not run."""
    return next((answer.features[tap] for answer in teachers.values() if tap in answer.features), None)


def known_labels(step: Step, kind: str) -> Tensor:
    """Return the labels of a step, -1 where there is none.

    Raises:
        InputError: the step has no labels.
    """
    if step.targets is None:
        raise InputError(f"{kind}: needs labels, and this phase's data have none or mixup mixes them; set mixup = 0")
    fits = step.valid is not None and step.valid.shape == step.targets.shape
    return step.targets.where(step.valid, -1) if fits and step.valid is not None else step.targets
