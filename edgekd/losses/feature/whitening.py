"""Whitening: the student's channels are as correlated as the teacher's, or not at all."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.projector import PROJECTOR, Projector, make_projector
from edgekd.losses.loss import Evidence
from edgekd.losses.step import Setup, Step


def correlation(features: Tensor, floor: float = 1e-5) -> Tensor:
    """Return the covariance over a sample's positions of its standardised channels, (N, C, C).

    Args:
        features: maps (N, C, H, W).
        floor: added to the variances.
    """
    flat = features.flatten(2)
    centred = flat - flat.mean(2, keepdim=True)
    standard = centred / (centred.square().mean(2, keepdim=True) + floor).sqrt()
    return standard @ standard.transpose(1, 2) / flat.shape[2]


def whitening(student: Tensor, target: Tensor) -> Tensor:
    """Return |R_S - R|² / C² for every sample, R_S the student's correlations.

    With R the identity it whitens the student: all channels of variance 1, no two of them correlated.

    Args:
        student: maps (N, C, H, W).
        target: R, correlations (N, C, C) or (C, C); no gradient flows into them.

    Returns:
        (N,).
    """
    return (correlation(student) - target.detach()).square().mean((1, 2))


class Whitening(FeatureLoss):
    """The distance of the channels' correlations from the teacher's, or from none."""

    title: ClassVar[str] = "Whitening"
    source: ClassVar[str] = "ROBUST-WT (whitening transform for domain generalisation)"
    evidence: ClassVar[Evidence] = "S"
    variant: ClassVar[str] = (
        "correlations of a sample's standardised channels move to the teacher's, which shows which of them "
        "carry what; to the identity on request"
    )
    applies: ClassVar[str] = "maps (N, C, H, W), as in segmentation across cameras or sites"
    shape: ClassVar[Literal["map"]] = "map"

    kind: Literal["whitening"] = "whitening"
    towards: Literal["teacher", "identity"] = Field(
        default="teacher", description="teacher: its correlations; identity: no two channels correlated"
    )
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
        if self.towards == "identity":
            return None
        return make_projector(self.kind, name, student, teacher, self.projector)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the distance of every sample."""
        student = student if memory is None else memory(student)
        if self.towards == "identity":
            return whitening(student, torch.eye(student.shape[1], dtype=student.dtype, device=student.device))
        return whitening(student, correlation(teacher))
