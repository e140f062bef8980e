"""What a loss sees of one training step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Answer:
    """What a network answers to a batch.

    `outputs` are its named outputs, the first one the main one; `features` what was captured at its taps, by the tap's
    name. Of a teacher whose answers are stored, either may be incomplete.
    """

    outputs: dict[str, Tensor]
    features: dict[str, Tensor] = field(default_factory=dict)

    def output(self, name: str | None = None) -> Tensor:
        """Return the output of that name, else the first."""
        return self.outputs[name] if name is not None else next(iter(self.outputs.values()))


@dataclass(frozen=True)
class Setup:
    """What a loss may know before training, to make its projectors and memories.

    `student` and `teachers` are answers to one small batch, for their shapes; `samples` counts the training samples
    (sample ids go from 0 to samples - 1), `classes` the classes, where there are any (two for a
    single logit); `inputs` are that batch's inputs.
    `class_axis` is the axis of the classes in the main output, as of a `Step`.
    """

    student: Answer
    teachers: Mapping[str, Answer]
    samples: int
    classes: int | None = None
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    class_axis: int = 1

    @property
    def teacher(self) -> Answer:
        """Return the first teacher's outputs with the features of all."""
        return merged(self.teachers)


def merged(teachers: Mapping[str, Answer]) -> Answer:
    """Return the first teacher's outputs with the features of all; of taps of one name, the first teacher's."""
    features: dict[str, Tensor] = {}
    for answer in teachers.values():
        features = {**answer.features, **features}
    return Answer(next(iter(teachers.values())).outputs, features)


def _alone(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Step:
    """One batch of training, as every loss, weight and policy sees it.

    Shapes: N samples. `targets` are class indices (N,) or masks (N, H, W) with -1 for what is ignored, or values; None
    without labels, then also `valid` alone says which elements count: a boolean (N,) or (N, positions ...). `class_axis`
    is the axis of the classes in the main output (1 for (N, C) and (N, C, H, W); -1 for token sequences (N, L, C)).
    `teacher` is the one answer that losses compare with: the only teacher's, or what the committee made of `teachers`.
    `sample_ids` (N,) are positions in the training part. `extras` are the data set's further arrays (modality masks,
    correspondences, scores ...). `task` is the task's own loss of the batch times its coefficient, with its gradient; None
    where it has no part. `gather` concatenates a tensor over the processes of a distributed run, with gradients;
    alone it returns the tensor. `progress` goes from 0 to 1 over the phase.
    """

    student: Answer
    teachers: Mapping[str, Answer] = field(default_factory=dict)
    teacher: Answer | None = None
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    targets: Tensor | None = None
    valid: Tensor | None = None
    sample_ids: Tensor | None = None
    groups: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    task: Tensor | None = None
    teacher_targets: Tensor | None = None  # of unpaired data: the labels of the teacher's own batch
    teacher_valid: Tensor | None = None  # `valid` of the batch that the teachers saw
    class_axis: int = 1
    progress: float = 0.0
    epoch: int = 0
    number: int = 0
    optimizer: str = "sgd"
    gather: Callable[[Tensor], Tensor] = _alone
    generator: torch.Generator | None = None

    def class_last(self, output: Tensor) -> Tensor:
        """Return logits with the classes as their last axis, (N, ..., C), in at least float32."""
        return at_least_float32(output).movedim(self.class_axis, -1)

    @property
    def the_teacher(self) -> Answer:
        """Return the teacher's answer; losses that need one are refused where there is none."""
        assert self.teacher is not None
        return self.teacher


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor in float32, or in float64 if it is: losses do not compute in half precision."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def hide_padding(answer: Answer, valid: Tensor | None) -> Answer:
    """Return the answer with zeros where it does not count, whatever stood there.

    Hidden are tokens (N, L, D) by `valid` (N, L), and maps (N, C, h, w) of any size by `valid` (N, H, W).
    """
    if valid is None or valid.ndim < 2:
        return answer

    def hidden(tensor: Tensor) -> Tensor:
        if valid.ndim == 2 and tensor.ndim == 3 and tensor.shape[:2] == valid.shape:
            return torch.where(valid[..., None], tensor, 0)
        if valid.ndim > 2 and tensor.ndim == valid.ndim + 1 and len(tensor) == len(valid):
            return torch.where(valid_at(valid, tuple(tensor.shape[2:]))[:, None], tensor, 0)
        return tensor

    return Answer(
        {name: hidden(tensor) for name, tensor in answer.outputs.items()},
        {name: hidden(tensor) for name, tensor in answer.features.items()},
    )


def valid_at(valid: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return which positions of a map of another size count, (N, *size): those in which any of `valid` (N, H, W) does."""
    if tuple(valid.shape[1:]) == size:
        return valid
    pool = {2: functional.adaptive_max_pool2d, 3: functional.adaptive_max_pool3d}[len(size)]
    return pool(valid[:, None].float(), size)[:, 0] > 0


def fitting(valid: Tensor | None, value: Tensor) -> Tensor | None:
    """Return which elements of a value (N, ...) count: maps of another size are fitted, else samples of which anything does."""
    if valid is None or valid.shape == value.shape[: valid.ndim]:
        return valid
    if 2 < valid.ndim < 5 and value.ndim == valid.ndim and len(valid) == len(value):
        return valid_at(valid, tuple(value.shape[1:]))
    return valid.flatten(1).any(1) if valid.ndim > 1 and len(valid) == len(value) else None


def as_classes(logits: Tensor) -> Tensor:
    """Return logits (..., C) as they are, those of a single class (..., 1) as those of no and yes (..., 2)."""
    return torch.cat([torch.zeros_like(logits), logits], -1) if logits.shape[-1] == 1 else logits
