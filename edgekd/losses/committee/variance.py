"""Teachers count by how well they fit the label, or the others."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.committee.mixture import (
    WeightedCommittee,
    answered,
    cross_entropy,
    labels_of_answers,
    mixture,
    shares,
    spread,
)
from edgekd.losses.step import Step, as_classes


def fit_shares(logits: Tensor, labels: Tensor | None, present: Tensor) -> Tensor:
    """Return w_k in proportion to exp(-CE(p_k, y)), (K, N, ...), with the sum 1 over teachers.

    Without a label in proportion to exp(-KL(m || p_k)), with m the mean of the teachers' probabilities: the further a
    teacher is from the others, the less it counts.

    Args:
        logits: (K, N, ..., C).
        labels: (N, ...), negative where there is none, or None.
        present: which teachers answered, (K, N); the others get 0.
    """
    equal = shares(torch.ones_like(logits[..., 0]), present)
    log_m = torch.log_softmax(as_classes(mixture(logits, equal)), -1)
    log_p = torch.log_softmax(as_classes(logits), -1)
    distance = (log_m.exp() * (log_m - log_p)).sum(-1)
    if labels is not None:
        distance = torch.where(labels >= 0, cross_entropy(logits, labels), distance)
    return torch.softmax((-distance).masked_fill(~spread(present, distance), -math.inf), 0)


class Variance(WeightedCommittee):
    """Teachers that miss the label, or differ from the others, count less."""

    title: ClassVar[str] = "Teachers weighted by disagreement"
    source: ClassVar[str] = "HumP-KD, arXiv 2606.14684, teacher weights"
    evidence: ClassVar[str] = "A"
    variant: ClassVar[str] = "weights exp(-CE) with labels, exp(-KL of the mean to the teacher) without"
    applies: ClassVar[str] = "classifiers, of which some fail on some inputs"

    kind: Literal["variance"] = "variance"
    labels: bool = Field(default=True, description="weigh by the labels, where there are any")

    def shares(self, step: Step, logits: Tensor, memory: nn.Module | None) -> Tensor:
        """Return the shares of every sample or position."""
        return fit_shares(logits, labels_of_answers(step, logits) if self.labels else None, answered(logits))
