"""More weight for what is difficult: textured inputs, the student's errors, or its gap to the teacher."""

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.labels import class_labels
from edgekd.losses.step import Step, at_least_float32
from edgekd.losses.weight.shared import answer_last, batch_mean, class_probabilities, fitted
from edgekd.losses.weighting import SignalWeight


def laplacian(images: Tensor) -> Tensor:
    """Return the response of the 4-neighbour Laplacian to the mean of the channels: (N, C, H, W) gives (N, H, W)."""
    grey = at_least_float32(images).mean(1, keepdim=True)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=grey.dtype, device=grey.device)
    return functional.conv2d(functional.pad(grey, (1, 1, 1, 1), mode="replicate"), kernel[None, None])[:, 0]


def cell_variance(maps: Tensor, size: int) -> Tensor:
    """Return the variance of maps (N, H, W) within each cell of a size x size grid: (N, size, size)."""
    centred = (maps - maps.mean((1, 2), keepdim=True))[:, None]
    mean, square = (functional.adaptive_avg_pool2d(values, size) for values in (centred, centred.square()))
    return (square - mean.square()).clamp(min=0)[:, 0]


def image_of(step: Step, name: str | None, kind: str) -> Tensor:
    """Return the input of that name, else the first that is a batch of images (N, C, H, W).

    Raises:
        InputError: there is none.
    """
    for key, value in step.inputs.items():
        if value.ndim == 4 and name in (None, key):
            return value.detach()
    shapes = {key: tuple(value.shape) for key, value in step.inputs.items()}
    raise InputError(
        f"{kind}: no input{' ' + name if name else ''} is an image (N, C, H, W); the inputs are {shapes}; name one with `input`"
    )


def student_error(step: Step, output: str | None = None) -> Tensor:
    """Return 1 - p_S(y) of classes, or mean |ŷ_S - y| of values, (N, ...); the batch's mean where there is no label."""
    answer = answer_last(step, step.student, output)
    if step.targets is not None and step.targets.is_floating_point():
        targets = step.targets.reshape(step.student.output(output).shape).to(answer.dtype)
        targets = targets[:, None] if targets.ndim == 1 else step.class_last(targets)
        return (answer - targets).abs().mean(-1)
    labels = class_labels(step, answer.shape[:-1])
    if labels is None:
        return torch.zeros_like(answer[..., 0])
    right = class_probabilities(answer).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    known = labels >= 0
    return torch.where(known, 1 - right, batch_mean(replace(step, valid=known), 1 - right))


def teacher_gap(step: Step, output: str | None = None) -> Tensor:
    """Return mean |ŷ_S - ŷ_T|, (N, ...): of probabilities where the labels are classes, else of the outputs as they are."""
    student, teacher = answer_last(step, step.student, output), answer_last(step, step.the_teacher, output)
    if class_labels(step, student.shape[:-1]) is not None:
        student, teacher = class_probabilities(student), class_probabilities(teacher)
    return (student - teacher).abs().mean(-1)


class Difficulty(SignalWeight):
    """exp(a z) with z the standardised difficulty, within -3 and 3."""

    title: ClassVar[str] = "Difficulty"
    source: ClassVar[str] = "signals of SPARK, arXiv 2606.15243: Laplacian variance, student error, teacher gap"
    evidence: ClassVar[str] = "D"
    variant: ClassVar[str] = "a fixed exponential of one standardised signal"
    applies: ClassVar[str] = "images (laplacian); classes and values, by sample or position (error, gap)"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "batch"})

    kind: Literal["difficulty"] = "difficulty"
    signal: Literal["laplacian", "error", "gap"] = Field(
        default="gap", description="the image's Laplacian variance, the student's error, or its gap to the teacher"
    )
    strength: float = Field(
        default=0.5, ge=-3, le=3, description="a: above 0 difficult elements count more, below 0 less"
    )
    output: str | None = Field(default=None, description="the output looked at; not set: the first")
    input: str | None = Field(default=None, description="the image looked at; not set: the first")

    def __call__(self, step: Step, elementwise: Tensor, memory: nn.Module | None = None) -> Tensor:
        """Return the weight of every element."""
        if self.signal == "laplacian":
            signal = cell_variance(laplacian(image_of(step, self.input, self.kind)), 1).flatten()
        else:
            signal = student_error(step, self.output) if self.signal == "error" else teacher_gap(step, self.output)
        centred = signal - batch_mean(step, signal)
        deviation = batch_mean(step, centred.square()).sqrt()
        score = (centred / deviation.clamp(min=1e-12)).clamp(-3, 3)
        return fitted(step, torch.exp(self.strength * score), elementwise)
