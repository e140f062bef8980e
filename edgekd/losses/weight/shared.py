"""What signal weights share: probabilities, means over the batch, and the fit of a weight to a loss."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.labels import elements_that_count
from edgekd.losses.step import Answer, Step, as_classes, at_least_float32


def answer_last(step: Step, answer: Answer, output: str | None = None) -> Tensor:
    """Return an output with its channels last (N, ..., C), detached, in at least float32; one value a sample is (N, 1)."""
    found = answer.output(output).detach()
    return at_least_float32(found)[:, None] if found.ndim == 1 else step.class_last(found)


def class_probabilities(logits: Tensor) -> Tensor:
    """Return the softmax of logits (N, ..., C) in at least float32; one logit (C = 1) is that of the second of two classes."""
    return as_classes(at_least_float32(logits.detach())).softmax(-1)


def batch_mean(step: Step, values: Tensor) -> Tensor:
    """Return the mean of the values (N, ...) that count, over all processes: a scalar, 0 if none counts."""
    counts = elements_that_count(step, values)
    sums = torch.stack([torch.where(counts, values, 0.0).sum(), counts.sum().to(values.dtype)])
    total, number = step.gather(sums[None]).sum(0)
    return total / number.clamp(min=1)


def fitted(step: Step, weight: Tensor, elementwise: Tensor) -> Tensor:
    """Return weights (N, positions ...) where a loss (N, ...) has its elements.

    Maps and sequences are resized to the loss's; where the loss has no positions, the mean over those that count is taken.
    """
    if weight.ndim == 1 or weight.shape == elementwise.shape:
        return weight
    if weight.ndim == elementwise.ndim and weight.ndim in (2, 3):
        size = elementwise.shape[1:]
        smooth: Literal["linear", "bilinear"] = "linear" if len(size) == 1 else "bilinear"
        smaller = all(new <= old for new, old in zip(size, weight.shape[1:], strict=True))
        return functional.interpolate(weight[:, None], tuple(size), mode="area" if smaller else smooth)[:, 0]
    counts = elements_that_count(step, weight).flatten(1)
    return torch.where(counts, weight.flatten(1), 0.0).sum(1) / counts.sum(1).clamp(min=1)


def array_of(step: Step, name: str, kind: str, meaning: str) -> Tensor:
    """Return an array of the data set.

    Raises:
        InputError: there is none of that name.
    """
    if name not in step.extras:
        raise InputError(
            f"{kind}: the data set has no array {name!r} with {meaning}; it has {sorted(step.extras)}; add it, or name another"
        )
    return step.extras[name]
