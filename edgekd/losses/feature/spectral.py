"""Spectra: magnitude and phase of the features' frequencies."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.projector import make_projector, match_size, project
from edgekd.losses.loss import Evidence
from edgekd.losses.schedule import Schedule, constant
from edgekd.losses.step import Setup, Step

QUIET = 1e-3  # a student's bin below this share of the teacher's has no phase to speak of


def spectrum(feature: Tensor) -> Tensor:
    """Return the complex frequencies of real features: along time (N, C, T), or of both sides of maps (N, C, H, W)."""
    return torch.fft.rfftn(feature, dim=tuple(range(2, feature.ndim)))


def magnitude_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return mean |log(1 + |F_S|) - log(1 + |F_T|)| for every sample, (N,), of spectra (N, C, frequencies ...).

    DLink, arXiv 2604.15016.
    """
    return (student.abs().log1p() - teacher.detach().abs().log1p()).abs().flatten(1).mean(1)


def phase_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return mean w_f (1 - cos(arg F_S - arg F_T)) for every sample, (N,), of spectra (N, C, frequencies ...).

    DLink, arXiv 2604.15016. w_f = |F_T| / mean |F_T|, so loud frequencies decide. The cosine is Re(F_S conj(F_T)) /
    (|F_S| |F_T|), which needs no angles; |F_S| is taken as at least a thousandth of |F_T|, so gradients stay bounded.
    """
    teacher = teacher.detach()
    loud = teacher.abs()
    tiny = torch.finfo(loud.dtype).tiny
    length = torch.maximum(student.abs(), QUIET * loud).clamp(min=tiny)
    apart = loud - (student * teacher.conj()).real / length
    return apart.flatten(1).mean(1) / loud.flatten(1).mean(1).clamp(min=tiny)


class Spectral(FeatureLoss):
    """The distance of magnitudes and of phases, frequency by frequency."""

    title: ClassVar[str] = "Spectral magnitude and phase"
    source: ClassVar[str] = "DLink, arXiv 2604.15016, spectral loss"
    evidence: ClassVar[Evidence] = "D"
    variant: ClassVar[str] = (
        "log magnitudes, phases weighted by the teacher's magnitudes, both sides of maps, and the weights"
    )
    applies: ClassVar[str] = "series (N, C, T), e.g. EEG; maps (N, C, H, W); beside a loss of values such as hint"
    shape: ClassVar[Literal["series"]] = "series"

    kind: Literal["spectral"] = "spectral"
    magnitude: Schedule = Field(default=constant(1.0), description="coefficient of the magnitudes")
    phase: Schedule = Field(default=constant(0.5), description="coefficient of the phases")

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return a convolution of size 1 where the numbers of channels differ.

        Raises:
            InputError: the features are not both series or both maps.
        """
        if student.ndim != teacher.ndim or student.ndim not in (3, 4):
            raise InputError(
                f"{self.kind}: {name}: the student's feature has the shape {tuple(student.shape[1:])}, the teacher's "
                f"{tuple(teacher.shape[1:])}; choose taps that both give series (C, T), or both maps (C, H, W)"
            )
        if student.shape[1] == teacher.shape[1]:
            return None
        return make_projector(self.kind, name, *match_size(student, teacher), "auto")

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the loss of every sample, (N,)."""
        mine, yours = (spectrum(feature) for feature in project(student, teacher, memory))
        magnitude, phase = self.magnitude.at(step.progress), self.phase.at(step.progress)
        return magnitude * magnitude_loss(mine, yours) + phase * phase_loss(mine, yours)
