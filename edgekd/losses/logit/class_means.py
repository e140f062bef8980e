"""Mean answers of every class, renewed epoch by epoch."""

from typing import Literal

import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.step import Answer, Setup, Step


class ClassMeans(nn.Module):
    """The mean probabilities (C, C) of the samples of every class, a row a true class.

    Buffers: `table` is what losses use; `sum` (C, C) and `count` (C,) gather the epoch under way.
    """

    table: Tensor
    start: Tensor
    sum: Tensor
    count: Tensor

    def __init__(self, classes: int, start: Literal["uniform", "one-hot"]) -> None:
        """Start with 1 / C everywhere, or with all of a class's probability on itself."""
        super().__init__()
        rows = torch.eye(classes) if start == "one-hot" else torch.full((classes, classes), 1 / classes)
        self.register_buffer("start", rows, persistent=False)
        self.register_buffer("table", rows.clone())
        self.register_buffer("sum", torch.zeros(classes, classes))
        self.register_buffer("count", torch.zeros(classes))

    @torch.no_grad()
    def add(self, probabilities: Tensor, labels: Tensor, step: Step) -> None:
        """Take in the probabilities (..., C) of elements with these labels (...), of all processes; -1 is left out."""
        probabilities = step.gather(probabilities.detach().flatten(0, -2)).to(self.sum)
        labels = step.gather(labels.flatten())
        counted = labels >= 0
        self.sum.index_add_(0, labels[counted], probabilities[counted])
        self.count.add_(labels[counted].bincount(minlength=len(self.count)))

    def rows(self, labels: Tensor) -> Tensor:
        """Return the row (..., C) of every label (...); any row for -1."""
        return self.table[labels.clamp(min=0)]

    @torch.no_grad()
    def renew(self, momentum: float = 0.0, least: int = 1) -> None:
        """Take the epoch's means into use, table = m table + (1 - m) mean, and begin anew.

        A class with fewer than `least` samples in the epoch goes back to its first row.
        """
        means = self.sum / self.count.clamp(min=1)[:, None]
        seen = (self.count >= least)[:, None]
        self.table.copy_(torch.where(seen, momentum * self.table + (1 - momentum) * means, self.start))
        self.sum.zero_()
        self.count.zero_()


def class_means(
    kind: str, setup: Setup, answer: Answer, output: str | None, start: Literal["uniform", "one-hot"]
) -> ClassMeans:
    """Return the table of means for one output of an answer.

    Raises:
        InputError: the data have no classes, or the output has not as many.
    """
    if setup.classes is None:
        raise InputError(
            f"{kind}: it keeps a mean a class, and these data have no classes; choose another loss, such as kl"
        )
    shape = tuple(answer.output(output).shape)
    if max(2, shape[setup.class_axis]) != setup.classes:
        raise InputError(
            f"{kind}: the data have {setup.classes} classes, the output has the shape {shape}; name the output with the "
            "classes: output = NAME"
        )
    return ClassMeans(setup.classes, start)
