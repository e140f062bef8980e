"""Similarity matrices: which samples, pixels and regions the teacher finds alike."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.counted import counted, whole_batch
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.loss import Evidence
from edgekd.losses.step import Setup, Step

Level = Literal["batch", "pixel", "region"]
PIXELS, GRID = 8, 4  # sides of the maps that are compared pixel by pixel, and region by region


def batch_similarity(features: Tensor) -> Tensor:
    """Return F Fᵀ with rows of length 1, (B, B), of features (B, D). Tung and Mori, arXiv 1907.09682, section 3."""
    return functional.normalize(features @ features.T)


def position_similarity(features: Tensor) -> Tensor:
    """Return the cosines between a sample's positions, (N, P, P), of features (N, C, P)."""
    unit = functional.normalize(features, dim=1)
    return unit.transpose(1, 2) @ unit


def region_means(features: Tensor, regions: Tensor) -> Tensor:
    """Return the mean of each region, (N, C, R); 0 where a sample lacks one.

    Args:
        features: maps (N, C, h, w).
        regions: numbers of regions (N, H, W), 0 to R - 1, of any size; below 0: no region.
    """
    count = int(regions.max().clamp(min=0)) + 1
    member = functional.one_hot(regions.long().clamp(min=-1) + 1, count + 1)[..., 1:].movedim(-1, 1).to(features.dtype)
    share = functional.adaptive_avg_pool2d(member, (features.shape[2], features.shape[3])).flatten(2)
    return features.flatten(2) @ (share / share.sum(2, keepdim=True).clamp(min=1e-6)).transpose(1, 2)


def mean_square(first: Tensor, second: Tensor) -> Tensor:
    """Return |A - B|² / n², a mean over the samples too where there is an axis for them; 0 without samples."""
    return (first - second).square().sum() / max(first.numel(), 1)


class Similarity(FeatureLoss):
    """The squared distance of similarity matrices, summed over the levels."""

    title: ClassVar[str] = "Similarity matrices"
    source: ClassVar[str] = "FedSKD; the batch's matrix: Tung and Mori, arXiv 1907.09682, section 3"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = "pixels are pooled to 8 x 8, regions are a 4 x 4 grid unless the data name them"
    applies: ClassVar[str] = "students of any width and kind: vectors (N, D) by batch, maps (N, C, H, W) by all levels"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "batch"})
    elementwise: ClassVar[bool] = False
    shape: ClassVar[Literal["map"]] = "map"

    kind: Literal["similarity"] = "similarity"
    levels: tuple[Level, ...] | Literal["auto"] = Field(
        default="auto", min_length=1, description="what is compared; auto: batch, and for maps also pixel and region"
    )
    regions: str | None = Field(
        default=None, description="the data's extra with region numbers (N, H, W); not set: a grid"
    )

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Check that there are positions where they are asked for.

        Raises:
            InputError: pixels or regions of what is no map.
        """
        if self.levels not in ("auto", ("batch",)) and not _maps(student, teacher):
            raise InputError(
                f"{self.kind}: {name}: the student's feature has the shape {tuple(student.shape[1:])}, the teacher's "
                f'{tuple(teacher.shape[1:])}; pixels and regions need maps (C, H, W), else set levels = ["batch"]'
            )
        return None

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the sum over the levels."""
        every: tuple[Level, ...] = ("batch", "pixel", "region") if _maps(student, teacher) else ("batch",)
        levels = every if self.levels == "auto" else self.levels
        total = student.new_zeros(())
        if "batch" in levels:
            mine, yours = (batch_similarity(whole_batch(side.flatten(1), step)) for side in (student, teacher))
            total = total + mean_square(mine, yours)
        student, teacher = counted(student, step), counted(teacher, step)
        if "pixel" in levels:
            size = tuple(min(PIXELS, *sides) for sides in zip(student.shape[2:], teacher.shape[2:], strict=True))
            mine, yours = (position_similarity(_grid(side, size)) for side in (student, teacher))
            total = total + mean_square(mine, yours)
        if "region" in levels:
            mine, yours = (position_similarity(self._regions(side, step)) for side in (student, teacher))
            total = total + mean_square(mine, yours)
        return total

    def _regions(self, features: Tensor, step: Step) -> Tensor:
        if self.regions is None:
            return _grid(features, (GRID, GRID))
        return region_means(features, counted(step.extras[self.regions], step))


def _maps(student: Tensor, teacher: Tensor) -> bool:
    return student.ndim == teacher.ndim == 4


def _grid(features: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.adaptive_avg_pool2d(features, (size[0], size[1])).flatten(2)
