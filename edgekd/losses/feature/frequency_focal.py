"""Focal frequency loss: the frequencies that are hardest to match count most."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.projector import PROJECTOR, Projector, make_projector, project
from edgekd.losses.loss import Evidence
from edgekd.losses.step import Setup, Step


def frequency_focal(student: Tensor, teacher: Tensor, alpha: float = 1.0) -> Tensor:
    """Return the mean of w |F_S - F_T|² over channels and frequencies, F the orthonormal 2-D Fourier transform.

    w = |F_S - F_T|^alpha, divided by its largest value in each channel; no gradient flows through w. Jiang et al., 2021,
    section 3.

    Args:
        student: maps (N, C, H, W).
        teacher: maps of the same shape; no gradient flows into them.
        alpha: how much hard frequencies count more; 0: all alike.

    Returns:
        (N,).
    """
    difference = torch.fft.fft2(student - teacher.detach(), norm="ortho")
    square = difference.real.square() + difference.imag.square()
    weight = square.detach().pow(alpha / 2)
    weight = weight / weight.amax((-2, -1), keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    return (weight * square).mean((1, 2, 3))


class FrequencyFocal(FeatureLoss):
    """The distance of spectra, weighted by itself."""

    title: ClassVar[str] = "Focal frequency"
    source: ClassVar[str] = "TinyNeRV; Jiang et al., arXiv 2012.12821, section 3"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = "between features of student and teacher, behind a projector where widths differ"
    applies: ClassVar[str] = "maps (N, C, H, W): images and frames that are restored or generated"
    shape: ClassVar[Literal["map"]] = "map"
    exempt: ClassVar[dict[str, str]] = {
        "gradient": "w = |F_S - F_T|^alpha is held fixed in dL/dF_S = 2 w (F_S - F_T); differences move w too"
    }

    kind: Literal["frequency-focal"] = "frequency-focal"
    alpha: float = Field(default=1.0, ge=0, description="how much hard frequencies count more; 0: all alike")
    projector: Projector = Field(default="auto", description=PROJECTOR)

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return the projector, if there is one.

        Raises:
            InputError: the student's feature is no map, or does not fit.
        """
        if student.ndim != 4:
            raise InputError(
                f"{self.kind}: {name}: the student's feature {tuple(student.shape[1:])} is no map (C, H, W)"
            )
        return make_projector(self.kind, name, student, teacher, self.projector)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the distance of every sample."""
        return frequency_focal(*project(student, teacher, memory), self.alpha)
