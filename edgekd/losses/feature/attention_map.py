"""Attention transfer: the student looks where the teacher looks."""

from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.projector import match_size
from edgekd.losses.loss import Evidence
from edgekd.losses.step import Setup, Step


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Return |q_S / |q_S| - q_T / |q_T||² with q = Σ_c f_c² over the positions.

    Zagoruyko and Komodakis, 2017, equation 2. Channels may differ in number, maps of unequal size are pooled to the
    smaller one.

    Args:
        student: features (N, C, H, W) or (N, C, T).
        teacher: features (N, C', ...); no gradient flows into them.

    Returns:
        (N,).
    """
    mine, yours = match_size(student.square().sum(1, keepdim=True), teacher.detach().square().sum(1, keepdim=True))
    return (functional.normalize(mine.flatten(1)) - functional.normalize(yours.flatten(1))).square().sum(1)


class AttentionTransfer(FeatureLoss):
    """The distance of the normalised sums of squared channels."""

    title: ClassVar[str] = "Attention transfer"
    source: ClassVar[str] = "Zagoruyko and Komodakis, arXiv 1612.03928, equation 2"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = "the squared norm, whose gradient vanishes where both maps agree"
    applies: ClassVar[str] = "maps (N, C, H, W) and series (N, C, T), of any number of channels"
    shape: ClassVar[Literal["map"]] = "map"

    kind: Literal["attention-transfer"] = "attention-transfer"

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Check that both are maps, or both series.

        Raises:
            InputError: they are not.
        """
        if student.ndim != teacher.ndim or student.ndim not in (3, 4):
            raise InputError(
                f"{self.kind}: {name}: the student's feature has the shape {tuple(student.shape[1:])}, the teacher's "
                f"{tuple(teacher.shape[1:])}; choose taps that give maps (C, H, W), or hint for vectors"
            )
        return None

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the distance of every sample."""
        return attention_transfer(student, teacher)
