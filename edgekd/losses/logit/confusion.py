"""No teacher: the student's own mean answer to a class, its row of confusions, softens the labels."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.labels import known_labels
from edgekd.losses.logit.class_means import ClassMeans, class_means
from edgekd.losses.loss import Capability, Evidence, Loss
from edgekd.losses.schedule import Schedule, Share
from edgekd.losses.step import Setup, Step, as_classes, at_least_float32


def softened_cross_entropy(student: Tensor, labels: Tensor, rows: Tensor, alpha: float) -> Tensor:
    """Return CE(q, softmax z) with q = (1 - alpha) onehot(y) + alpha C_y, for every element.

    Args:
        student: logits (..., C).
        labels: y (...), at least 0.
        rows: C_y (..., C), probabilities.
        alpha: share of the row, 0 to 1.

    Returns:
        (...), in at least float32.
    """
    log_student = torch.log_softmax(at_least_float32(student), -1)
    own = log_student.gather(-1, labels[..., None]).squeeze(-1)
    return -(1 - alpha) * own - alpha * (rows.detach() * log_student).sum(-1)


class Confusion(Loss):
    """Cross-entropy to labels softened by running means of the student's own answers to their class."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "Confusion distillation"
    source: ClassVar[str] = "What Do Students Learn?, arXiv 2606.03052"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = (
        "the running mean, its mix with the label and the rows reset to one-hot are edgekd's formula"
    )
    applies: ClassVar[str] = (
        "training without a teacher, in place of the task's cross-entropy: (N, C), maps (N, C, H, W)"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    exempt: ClassVar[dict[str, str]] = {"zero": "no teacher: CE(q, p) >= H(q), and q is not the student's answer p"}

    kind: Literal["confusion"] = "confusion"
    output: str | None = Field(default=None, description="the output trained; not set: the first")
    alpha: Share = Field(
        default=Schedule(start=0.0, end=0.5, until=0.3), description="share of the class's mean answer"
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="share of the means that stays, an epoch")
    least: int = Field(default=5, ge=1, description="samples of a class in an epoch below which its row is one-hot")

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return the table of class means, one-hot at first.

        Raises:
            InputError: there are no classes, or the output does not have them.
        """
        return class_means(self.kind, setup, setup.student, self.output, "one-hot")

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the cross-entropy of every element."""
        assert isinstance(memory, ClassMeans)
        student, labels = as_classes(step.class_last(step.student.output(self.output))), known_labels(step, self.kind)
        memory.add(student.detach().softmax(-1), labels, step)
        return softened_cross_entropy(student, labels.clamp(min=0), memory.rows(labels), self.alpha.at(step.progress))

    def end_epoch(self, memory: nn.Module | None, epoch: int) -> None:
        """Move the means towards those of the epoch."""
        if isinstance(memory, ClassMeans):
            memory.renew(self.momentum, self.least)
