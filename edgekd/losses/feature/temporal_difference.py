"""Temporal differences: what changes from one moment to the next changes alike."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.positions import mean_where
from edgekd.losses.feature.projector import PROJECTOR, Projector, make_projector, project
from edgekd.losses.loss import Evidence
from edgekd.losses.step import Setup, Step


def temporal_difference(student: Tensor, teacher: Tensor, axis: int = -1, valid: Tensor | None = None) -> Tensor:
    """Return the mean of ((x_t - x_{t-1})_S - (x_t - x_{t-1})_T)² over all moments but the first.

    Args:
        student: series (N, C, T), or frames (N, T, ...) with axis 1.
        teacher: of the same shape; no gradient flows into it.
        axis: that of time.
        valid: moments that count (N, T); a difference counts where both of its moments do. None: all.

    Returns:
        (N,), 0 where nothing counts.
    """
    change = (student - teacher.detach()).diff(dim=axis).square().movedim(axis, 1).flatten(2).mean(2)
    return change.mean(1) if valid is None else mean_where(change, valid[:, 1:] & valid[:, :-1])


def sample_difference(error: Tensor, others: Tensor, ids: Tensor, other_ids: Tensor) -> Tensor:
    """Return the mean square of e_i - e_{i-1} for every sample whose predecessor is at hand, else 0.

    Args:
        error: x_S - x_T of this process's samples (N, ...).
        others: the same of all processes (B, ...).
        ids: numbers (N,) of the samples in time.
        other_ids: those of `others` (B,).
    """
    before = ids[:, None] - 1 == other_ids
    change = error - others[before.int().argmax(1)]
    return torch.where(before.any(1), change.square().flatten(1).mean(1), 0.0)


class TemporalDifference(FeatureLoss):
    """The squared distance of differences between neighbouring moments."""

    title: ClassVar[str] = "Temporal difference"
    source: ClassVar[str] = "TinyNeRV"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = "mean squares; also for series and features"
    applies: ClassVar[str] = "series (N, C, T), clips (N, T, ...), and networks that give one frame a sample"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "batch"})
    shape: ClassVar[Literal["series"]] = "series"

    kind: Literal["temporal-difference"] = "temporal-difference"
    along: Literal["series", "clip", "samples"] = Field(
        default="series",
        description="where time runs: the last axis of (N, C, T), the second of (N, T, ...), or the samples by their "
        "position in the training part (for batches of neighbouring frames)",
    )
    projector: Projector = Field(default="auto", description=PROJECTOR)

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return the projector, if there is one.

        Raises:
            InputError: there is no axis of time, or the features do not fit.
        """
        if student.ndim < 3 and self.along != "samples":
            raise InputError(
                f"{self.kind}: {name}: vectors {tuple(student.shape[1:])} have no time; choose other taps, or "
                f'along = "samples"'
            )
        if student.shape[1:] == teacher.shape[1:] and self.projector == "auto":
            return None
        return make_projector(self.kind, name, student, teacher, self.projector)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the distance of every sample."""
        student, teacher = project(student, teacher, memory)
        if self.along != "samples":
            axis = -1 if self.along == "series" else 1
            valid = step.valid
            fits = valid is not None and valid.shape == (len(student), student.shape[axis])
            return temporal_difference(student, teacher, axis, valid if fits else None)
        assert step.sample_ids is not None
        error = student - teacher.detach()
        return sample_difference(error, step.gather(error), step.sample_ids, step.gather(step.sample_ids))
