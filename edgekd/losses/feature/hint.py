"""Hints: the student's features come close to the teacher's."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.projector import PROJECTOR, Projector, make_projector, project
from edgekd.losses.loss import Evidence
from edgekd.losses.step import Setup, Step

Distance = Literal["mse", "cosine", "huber", "l1"]


def hint(student: Tensor, teacher: Tensor, distance: Distance = "mse", delta: float = 1.0) -> Tensor:
    """Return the distance of features, a mean over the axes that are not in the result.

    mse: (f_S - f_T)², Romero et al., 2015, equation 3, as a mean. l1: |f_S - f_T|. huber: half the square up to `delta`,
    linear beyond. cosine: 1 - cos(f_S, f_T), along the channels of maps, else the last axis.

    Args:
        student: features (N, D), (N, C, H, W) or (N, L, D).
        teacher: features of the same shape; no gradient flows into them.
        distance: which distance.
        delta: where huber becomes linear.

    Returns:
        (N,), (N, H, W) for maps, (N, L) for sequences.
    """
    teacher = teacher.detach()
    channels = 1 if student.ndim > 3 else -1
    if distance == "cosine":
        return 1 - functional.cosine_similarity(student, teacher, dim=channels)
    if distance == "mse":
        value = functional.mse_loss(student, teacher, reduction="none")
    elif distance == "huber":
        value = functional.huber_loss(student, teacher, reduction="none", delta=delta)
    else:
        value = functional.l1_loss(student, teacher, reduction="none")
    return value.mean(channels)


class Hint(FeatureLoss):
    """The distance of features, behind a projector where widths differ."""

    title: ClassVar[str] = "Hints"
    source: ClassVar[str] = "Romero et al. (FitNets), arXiv 1412.6550, equation 3"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = "a mean in place of half the sum; cosine, Huber and L1; pooling of unequal sizes"
    applies: ClassVar[str] = "vectors (N, D), maps (N, C, H, W), tokens (N, L, D), series (N, C, T)"
    shape: ClassVar[Literal["tokens"]] = "tokens"

    kind: Literal["hint"] = "hint"
    distance: Distance = Field(default="mse", description="how features are compared")
    delta: float = Field(default=1.0, gt=0, description="difference from which huber is linear")
    projector: Projector = Field(default="auto", description=PROJECTOR)
    tokens: Literal["all", "first"] = Field(default="all", description="first: only the class token of (N, L, D)")

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return the projector, if there is one."""
        return make_projector(self.kind, name, self._chosen(student), self._chosen(teacher), self.projector)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the distance of every sample, position or token."""
        return hint(*project(self._chosen(student), self._chosen(teacher), memory), self.distance, self.delta)

    def _chosen(self, feature: Tensor) -> Tensor:
        return feature[:, 0] if self.tokens == "first" and feature.ndim == 3 else feature
