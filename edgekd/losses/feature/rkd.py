"""Relational distillation: distances and angles between samples are the teacher's."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.losses.feature.counted import whole_batch
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.loss import Evidence
from edgekd.losses.step import Setup, Step


def distances(features: Tensor) -> Tensor:
    """Return |f_i - f_j| of all pairs i < j, divided by their mean. Park et al., 2019, section 3.

    Args:
        features: (B, D).

    Returns:
        (B (B - 1) / 2,).
    """
    apart = functional.pdist(features)
    return apart / apart.mean().clamp(min=torch.finfo(apart.dtype).tiny)


def angles(features: Tensor) -> Tensor:
    """Return the cosine of the angle at f_j between f_i and f_k, with j first; 0 where two of them coincide at j.

    Park et al., 2019, section 3.

    Args:
        features: (B, D).

    Returns:
        (B, B, B).
    """
    away = features[None] - features[:, None]
    length = away.norm(dim=2, keepdim=True)
    unit = away / torch.where(length > 0, length, 1.0)
    return unit @ unit.transpose(1, 2)


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over pairs of Huber's distance between relative distances; 0 for fewer than two samples."""
    if len(student) < 2:
        return student.sum() * 0
    return functional.smooth_l1_loss(distances(student), distances(teacher.detach()))


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over triples of Huber's distance between cosines; 0 for fewer than three samples."""
    count = len(student)
    if count < 3:
        return student.sum() * 0
    total = functional.smooth_l1_loss(angles(student), angles(teacher.detach()), reduction="sum")
    return total / (count * (count - 1) * (count - 2))


class Rkd(FeatureLoss):
    """Huber's distance between relative distances, and between angles, of the batch's samples.

    Time and memory of the angles grow with the third power of the batch over all processes.
    """

    title: ClassVar[str] = "Relational distillation"
    source: ClassVar[str] = "Park et al., arXiv 1904.05068, section 3"
    evidence: ClassVar[Evidence] = "A"
    applies: ClassVar[str] = "embeddings (N, D) of any width; other features are flattened"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "batch"})
    elementwise: ClassVar[bool] = False

    kind: Literal["rkd"] = "rkd"
    distance: float = Field(default=1.0, ge=0, description="weight of the distances")
    angle: float = Field(default=2.0, ge=0, description="weight of the angles")

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return None: features of any width can be compared."""
        return None

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the weighted sum of both terms."""
        student, teacher = whole_batch(student.flatten(1), step), whole_batch(teacher.flatten(1), step)
        total = student.new_zeros(())
        if self.distance:
            total = total + self.distance * distance_loss(student, teacher)
        if self.angle:
            total = total + self.angle * angle_loss(student, teacher)
        return total
