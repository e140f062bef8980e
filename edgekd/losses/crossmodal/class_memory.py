"""Both modalities are drawn to a memory of each class."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.crossmodal.pooling import pooled
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.labels import sample_labels
from edgekd.losses.loss import Capability, Evidence
from edgekd.losses.step import Setup, Step


def class_scores(points: Tensor, memory: Tensor, sharpness: float = 5.0) -> Tensor:
    """Return the smooth maximum s_c = (1 / t) log sum_k exp(t <x, M_ck>), (N, C).

    Args:
        points: x (N, D).
        memory: M (C, K, D); no gradient flows into it.
        sharpness: t > 0.
    """
    return torch.logsumexp(sharpness * torch.einsum("nd,ckd->nck", points, memory.detach()), 2) / sharpness


def margin_loss(scores: Tensor, labels: Tensor, margin: float = 0.2, beta: float = 5.0) -> Tensor:
    """Return softplus(b (m - (s_y - max of the other s_c))), (N,); 0 where the label is negative.

    Args:
        scores: s (N, C), C >= 2.
        labels: y (N,).
        margin: m.
        beta: b > 0.
    """
    label = labels.clamp(min=0)[:, None]
    others = scores.scatter(1, label, float("-inf")).amax(1)
    loss = functional.softplus(beta * (margin - (scores.gather(1, label)[:, 0] - others)))
    return torch.where(labels >= 0, loss, 0)


class ClassMemory(nn.Module):
    """K unit vectors of every class in a shared space, and each modality's map into it.

    The vectors are buffers: they follow the points of their class as moving means, never a gradient of the student.
    """

    vectors: Tensor

    def __init__(self, student: int, teacher: int, classes: int, slots: int, width: int) -> None:
        super().__init__()
        self.student, self.teacher = nn.Linear(student, width), nn.Linear(teacher, width)
        self.register_buffer("vectors", functional.normalize(torch.randn(classes, slots, width), dim=2))

    @torch.no_grad()
    def update(self, points: Tensor, labels: Tensor, momentum: float, apart: float) -> None:
        """Move the nearest vector of each point's class towards it, then the vectors of a class apart from each other.

        M_ck = m M_ck + (1 - m) mean of the points nearest to it; then a step of size `apart` down the gradient of
        sum over k != j of <M_ck, M_cj>^2 / 4; then back to unit length.

        Args:
            points: (N, D), those of all processes.
            labels: (N,), negative where unknown.
            momentum: m.
            apart: size of the step of the orthogonality regulariser.
        """
        classes, slots, width = self.vectors.shape
        known = labels >= 0
        points, labels = points[known], labels[known]
        nearest = torch.einsum("nd,nkd->nk", points, self.vectors[labels]).argmax(1)
        member = functional.one_hot(labels * slots + nearest, classes * slots).to(points.dtype)
        counts = member.sum(0)[:, None]
        flat = self.vectors.reshape(-1, width)
        flat = torch.where(
            counts > 0, momentum * flat + (1 - momentum) * (member.T @ points) / counts.clamp(min=1), flat
        )
        moved = flat.reshape(classes, slots, width)
        similar = moved @ moved.transpose(1, 2) * (1 - torch.eye(slots, dtype=moved.dtype, device=moved.device))
        self.vectors.copy_(functional.normalize(moved - apart * similar @ moved, dim=2))


class ClassMemoryLoss(FeatureLoss):
    """w_S L(f_S) + w_T L(f_T) with L the margin loss of a modality's point and the class memory.

    The two modalities never meet: each is drawn to the memory of the label, so small batches and unpaired data are enough.
    """

    capability: ClassVar[Capability] = "C05"
    title: ClassVar[str] = "Class memory"
    source: ClassVar[str] = "MoMKD, github.com/CAIR-LAB-WFUSM/MoMKD, memory and alignment loss"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = (
        "unit vectors; against the strongest other class; margin 0.2, beta 5; orthogonality as a step"
    )
    applies: ClassVar[str] = "classes with few samples a batch, and a teacher of another modality"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "labels", "batch"})
    exempt: ClassVar[dict[str, str]] = {"zero": "softplus(x) is above 0 for every x; the labels teach, not the teacher"}

    kind: Literal["class-memory"] = "class-memory"
    slots: int = Field(default=16, ge=1, description="K, vectors a class")
    width: int = Field(default=64, ge=1, description="D of the shared space")
    sharpness: float = Field(default=5.0, gt=0, description="of the smooth maximum over a class's vectors")
    margin: float = Field(default=0.2, ge=0, description="m, by which the label's class should lead")
    beta: float = Field(default=5.0, gt=0, description="steepness of the margin loss")
    momentum: float = Field(default=0.99, ge=0, lt=1, description="of the memory")
    apart: float = Field(default=0.01, ge=0, description="step of the orthogonality regulariser")
    student_weight: float = Field(default=2.0, ge=0, description="w_S")
    teacher_weight: float = Field(default=0.5, ge=0, description="w_T, trains the teacher's map into the shared space")

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> ClassMemory:
        """Return the memory.

        Raises:
            InputError: there are no classes.
        """
        classes = setup.classes
        if classes is None:
            raise InputError(f"{self.kind}: {name}: a memory is a class's, and the data have no classes; use hint")
        widths = pooled(student).shape[1], pooled(teacher).shape[1]
        return ClassMemory(*widths, classes, self.slots, self.width).to(student.device)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the loss of every sample, then move the memory."""
        assert isinstance(memory, ClassMemory)
        labels = sample_labels(step, self.kind)
        yours = step.teacher_targets if step.teacher_targets is not None else labels
        points = [functional.normalize(memory.student(pooled(student, step.valid)), dim=1)]
        points.append(functional.normalize(memory.teacher(pooled(teacher, step.teacher_valid)), dim=1))
        vectors = memory.vectors.clone()
        losses = [
            margin_loss(class_scores(point, vectors, self.sharpness), label, self.margin, self.beta)
            for point, label in zip(points, (labels, yours), strict=True)
        ]
        if torch.is_grad_enabled():
            both = torch.cat([step.gather(point.detach()) for point in points])
            memory.update(both, torch.cat([step.gather(labels), step.gather(yours)]), self.momentum, self.apart)
        # The teacher's batch may be another one: its mean is added to every sample.
        return self.student_weight * losses[0] + self.teacher_weight * losses[1].mean()
