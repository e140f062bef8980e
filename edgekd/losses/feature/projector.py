"""Projectors: learned maps from the student's width to the teacher's, and pooling to one size."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.step import at_least_float32

Projector = Literal["auto", "none", "linear"]
PROJECTOR = "auto: a linear layer or 1x1 convolution where widths differ; linear: always; none: widths must be equal"


def make_projector(kind: str, name: str, student: Tensor, teacher: Tensor, projector: Projector) -> nn.Module | None:
    """Return the linear map from the student's features to the teacher's width, or None where none is wanted.

    A linear layer for vectors (N, D) and tokens (N, L, D), a 1x1 convolution for maps (N, C, H, W) and series (N, C, T).
    Three axes are tokens where the second axes agree, else series. Sizes of maps are `match_size`'s matter.

    Args:
        kind: the loss's kind, for messages.
        name: the pair's name, for messages.
        student: its feature.
        teacher: its feature.
        projector: "auto": only where widths differ. "linear": always. "none": never.

    Raises:
        InputError: the features differ in their number of axes, in both axes of a sequence, or in width without a
            projector.
    """
    mine, yours = tuple(student.shape[1:]), tuple(teacher.shape[1:])
    shapes = f"{kind}: {name}: the student's feature has the shape {mine}, the teacher's {yours}"
    if len(mine) != len(yours) or len(mine) not in (1, 2, 3):
        raise InputError(f"{shapes}; choose taps that both give vectors, both sequences or both maps")
    if len(mine) == 2 and mine[0] != yours[0] and mine[1] != yours[1]:
        raise InputError(f"{shapes}, equal neither in length nor in width; choose taps of equal length")
    width_last = len(mine) == 1 or (len(mine) == 2 and mine[0] == yours[0])
    width, wanted = (mine[-1], yours[-1]) if width_last else (mine[0], yours[0])
    if projector == "none" and width != wanted:
        raise InputError(f'{shapes}; choose taps of equal width, or projector = "linear"')
    if projector == "none" or (projector == "auto" and width == wanted):
        return None
    made: nn.Module
    if width_last:
        made = nn.Linear(width, wanted)
    elif len(mine) == 2:
        made = nn.Conv1d(width, wanted, 1)
    else:
        made = nn.Conv2d(width, wanted, 1)
    return made.to(student.device, at_least_float32(student).dtype)


def match_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both at the smaller one's size: maps (N, C, H, W) and series (N, C, T) are average-pooled, axis by axis.

    Vectors, and features of equal size, are returned as they are.
    """
    size = tuple(min(pair) for pair in zip(student.shape[2:], teacher.shape[2:], strict=True))
    return _pooled(student, size), _pooled(teacher, size)


def project(student: Tensor, teacher: Tensor, projector: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Return the projected student and the teacher in one shape."""
    return match_size(student if projector is None else projector(student), teacher)


def _pooled(tensor: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(tensor.shape[2:]) == size:
        return tensor
    if len(size) == 1:
        return functional.adaptive_avg_pool1d(tensor, size[0])
    return functional.adaptive_avg_pool2d(tensor, (size[0], size[1]))
