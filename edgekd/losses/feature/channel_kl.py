"""Channel-wise distillation: where each channel is active."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.projector import PROJECTOR, Projector, make_projector, project
from edgekd.losses.logit.kl import temperature_kl
from edgekd.losses.loss import Evidence
from edgekd.losses.schedule import Temperature, constant
from edgekd.losses.step import Setup, Step

NEVER = -1e9  # a logit whose probability is 0


def channel_kl(student: Tensor, teacher: Tensor, temperature: float = 4.0, valid: Tensor | None = None) -> Tensor:
    """Return T² / C Σ_c KL(p_T,c || p_S,c) with p_c = softmax of channel c over its positions, at temperature T.

    Shu et al., 2021, section 3.

    Args:
        student: maps (N, C, H, W) or series (N, C, T).
        teacher: maps of the same shape; no gradient flows into them.
        temperature: T > 0.
        valid: positions that count (N, H, W); the others get no probability.

    Returns:
        (N,).
    """
    if valid is not None:
        student, teacher = (side.masked_fill(~valid[:, None], NEVER) for side in (student, teacher))
    return temperature_kl(student.flatten(2), teacher.flatten(2), temperature).mean(1)


class ChannelKl(FeatureLoss):
    """KL between the softmax over positions of each channel."""

    title: ClassVar[str] = "Channel-wise KL"
    source: ClassVar[str] = "Shu et al., arXiv 2011.13256, section 3"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = "unequal sizes are pooled; a mask of the maps' size leaves positions out"
    applies: ClassVar[str] = "maps (N, C, H, W), as in segmentation"
    shape: ClassVar[Literal["map"]] = "map"

    kind: Literal["channel-kl"] = "channel-kl"
    temperature: Temperature = Field(default=constant(4.0), description="T of the softmax over positions")
    projector: Projector = Field(default="auto", description=PROJECTOR)

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return the 1x1 projector, if there is one.

        Raises:
            InputError: the features have no positions, or do not fit.
        """
        if student.ndim < 3:
            raise InputError(
                f"{self.kind}: {name}: vectors {tuple(student.shape[1:])} have no positions; choose a tap of maps"
            )
        return make_projector(self.kind, name, student, teacher, self.projector)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the mean divergence of every sample's channels."""
        student, teacher = project(student, teacher, memory)
        valid = step.valid
        if valid is not None and student.ndim == 3 and valid.shape == student.shape[:2]:  # tokens (N, L, C)
            student, teacher = student.transpose(1, 2), teacher.transpose(1, 2)
        fits = valid is not None and valid.shape == (len(student), *student.shape[2:])
        return channel_kl(student, teacher, self.temperature.at(step.progress), valid if fits else None)
