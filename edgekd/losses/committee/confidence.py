"""Teachers count by their confidence in each sample."""

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
    shares,
    spread,
)
from edgekd.losses.step import Step, as_classes


def confidence(logits: Tensor) -> Tensor:
    """Return 1 - H(p) / log C in [0, 1], (...), of logits (..., C); a single class is a yes or no, C = 2."""
    log_p = torch.log_softmax(as_classes(logits), -1)
    return (1 + (log_p.exp() * log_p).sum(-1) / math.log(log_p.shape[-1])).clamp(0, 1)


def label_confidence(losses: Tensor, present: Tensor) -> Tensor:
    """Return w_k in proportion to 1 - exp(CE_k) / sum_j exp(CE_j), (K, N, ...): Zhang et al., 2022, equation 3.

    Args:
        losses: cross-entropies of the teachers with the label, (K, N, ...).
        present: which teachers answered, (K, N).
    """
    part = torch.softmax(losses.masked_fill(~spread(present, losses), -math.inf), 0)
    return shares(1 - part, present)


class Confidence(WeightedCommittee):
    """Where there is a label, by the teacher's cross-entropy with it; else by the entropy of its answer."""

    title: ClassVar[str] = "Teachers weighted by confidence"
    source: ClassVar[str] = "Zhang et al., arXiv 2201.00007, equation 3; entropy: DiverseDistill, arXiv 2402.14035"
    evidence: ClassVar[str] = "A"
    variant: ClassVar[str] = "without labels the weight is 1 - H / log C"
    applies: ClassVar[str] = "classifiers that differ in what they are good at, or that are sure of what they know"

    kind: Literal["confidence"] = "confidence"
    labels: bool = Field(default=True, description="weigh by the labels, where there are any")

    def shares(self, step: Step, logits: Tensor, memory: nn.Module | None) -> Tensor:
        """Return the shares of every sample or position."""
        present = answered(logits)
        sure = shares(confidence(logits), present)
        labels = labels_of_answers(step, logits) if self.labels else None
        if labels is None:
            return sure
        return torch.where(labels >= 0, label_confidence(cross_entropy(logits, labels), present), sure)
