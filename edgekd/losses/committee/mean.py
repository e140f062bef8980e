"""All teachers count alike."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from edgekd.losses.committee.mixture import WeightedCommittee, answered, shares
from edgekd.losses.step import Step


class Mean(WeightedCommittee):
    """The mean of the teachers' softened probabilities, or of their logits."""

    title: ClassVar[str] = "Mean of the teachers"
    source: ClassVar[str] = (
        "Hinton et al., arXiv 1503.02531, section 3; You et al., KDD 2017, doi 10.1145/3097983.3098135"
    )
    evidence: ClassVar[str] = "A"
    applies: ClassVar[str] = "teachers of equal outputs, of about equal quality"

    kind: Literal["mean"] = "mean"

    def shares(self, step: Step, logits: Tensor, memory: nn.Module | None) -> Tensor:
        """Return 1/K, of those who answered."""
        present = answered(logits)
        return shares(torch.ones_like(present, dtype=logits.dtype), present)
