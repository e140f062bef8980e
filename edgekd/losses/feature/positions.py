"""Features as positions: maps, sequences and vectors in one form (N, P, D)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.projector import match_size
from edgekd.losses.step import Step, fitting

Layout = Literal["tokens", "series"]
LAYOUT = "what three axes mean. tokens: (N, L, D); series: (N, D, L)"


def as_tokens(feature: Tensor, layout: Layout = "tokens") -> Tensor:
    """Return (N, P, D) of a vector (N, D), a sequence in the given layout, or a map (N, D, H, W) in row order."""
    if feature.ndim == 2:
        return feature[:, None]
    if feature.ndim == 4:
        return feature.flatten(2).transpose(1, 2)
    return feature if layout == "tokens" else feature.transpose(1, 2)


def paired(kind: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both position by position: maps of one size (the larger one average-pooled), else (N, P, D) and (N, P, E).

    Three axes are tokens where the second axes agree, else series.

    Raises:
        InputError: their positions do not correspond.
    """
    if student.ndim == teacher.ndim == 4:
        return match_size(student, teacher)
    if student.ndim == teacher.ndim:
        layout: Layout = "series" if student.ndim == 3 and student.shape[1] != teacher.shape[1] else "tokens"
        mine, yours = as_tokens(student, layout), as_tokens(teacher, layout)
        if mine.shape[:2] == yours.shape[:2]:
            return mine, yours
    raise InputError(
        f"{kind}: the student's feature has the shape {tuple(student.shape[1:])}, the teacher's "
        f"{tuple(teacher.shape[1:])}; choose taps that both give vectors, sequences of one length, or maps"
    )


def counted_positions(step: Step, feature: Tensor, layout: Layout = "tokens") -> Tensor:
    """Return which positions (N, P) of a feature count by `step.valid`; all, where it does not speak of them.

    A map of another size than `valid` counts where at least half of what lies below it does.
    """
    size = as_tokens(feature, layout).shape[:2]
    valid = step.valid
    if valid is not None and valid.ndim == 1:
        return valid[:, None].expand(size)
    if valid is not None and valid.ndim == 3 and feature.ndim == 4:
        share = functional.adaptive_avg_pool2d(valid[:, None].float(), (feature.shape[2], feature.shape[3]))
        return share.flatten(1) >= 0.5
    if valid is not None and valid.shape == size:
        return valid
    return torch.ones(size, dtype=torch.bool, device=feature.device)


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean (N, ...) of values (N, P, ...) over the counted positions (N, P); 0 where none counts."""
    share = counted.to(values.dtype) / counted.sum(1, keepdim=True).clamp(min=1)
    return (values * share.reshape(share.shape + (1,) * (values.ndim - 2))).sum(1)


def per_sample(value: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean of every sample (N,) over its elements (N, ...) that count; 0 where none does."""
    if value.ndim < 2:
        return value
    known = fitting(valid, value)
    counted = torch.ones_like(value) if known is None else known.reshape(known.shape + (1,) * (value.ndim - known.ndim))
    return mean_where(value.flatten(1), counted.expand_as(value).flatten(1))


def extra(step: Step, name: str, kind: str) -> Tensor:
    """Return an array of the data set.

    Raises:
        InputError: the data set has none of that name.
    """
    if name not in step.extras:
        had = ", ".join(sorted(step.extras)) or "none"
        raise InputError(f"{kind}: the data set has no array {name!r}; its further arrays: {had}")
    return step.extras[name]
