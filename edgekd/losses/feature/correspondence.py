"""Paired correspondence: each point of one sensor learns from the pixel it falls on."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.positions import LAYOUT, Layout, as_tokens, counted_positions, extra, mean_where
from edgekd.losses.feature.projector import PROJECTOR, Projector, make_projector
from edgekd.losses.loss import Evidence
from edgekd.losses.step import Setup, Step


def at_pixels(teacher: Tensor, index: Tensor) -> Tensor:
    """Return the features (N, P, D) of a map (N, D, H, W) at the pixels y W + x of an index (N, P); below 0: any."""
    places = index.clamp(min=0)[:, None].expand(-1, teacher.shape[1], -1)
    return teacher.flatten(2).gather(2, places).transpose(1, 2)


def point_to_pixel(student: Tensor, teacher: Tensor, distance: Literal["cosine", "mse"] = "cosine") -> Tensor:
    """Return 1 - cos(f_S, f_T), or mean_d (f_S - f_T)², for every pair (N, P) of features (N, P, D).

    HilDA, arXiv 2606.20189, point-pixel distillation.
    """
    teacher = teacher.detach()
    if distance == "cosine":
        return 1 - functional.cosine_similarity(student, teacher, dim=-1)
    return (student - teacher).square().mean(-1)


class Correspondence(FeatureLoss):
    """The distance of each point's feature to that of its pixel, a mean over the points of a sample that have one."""

    title: ClassVar[str] = "Point-pixel correspondence"
    source: ClassVar[str] = "HilDA, arXiv 2606.20189, multi-layer point-pixel distillation"
    evidence: ClassVar[Evidence] = "D"
    variant: ClassVar[str] = "cosine distance, nearest pixel of the teacher's map"
    applies: ClassVar[str] = (
        "students of points (N, P, D), (N, D, P) or maps in row order; teacher maps (N, D, H, W), e.g. LiDAR from camera"
    )
    shape: ClassVar[Literal["map"]] = "map"

    kind: Literal["correspondence"] = "correspondence"
    index: str = Field(
        default="correspondence",
        description="the data's array (N, P): each point's pixel y W + x on the teacher's map, -1 for none. none: point p "
        "is pixel p",
    )
    layout: Layout = Field(default="tokens", description=LAYOUT)
    distance: Literal["cosine", "mse"] = Field(default="cosine", description="how a pair is compared")
    projector: Projector = Field(default="auto", description=PROJECTOR)

    @classmethod
    def example(cls) -> "Correspondence":
        """Return settings without an index."""
        return cls(index="none")

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return the projector, if there is one.

        Raises:
            InputError: the teacher's feature is no map, or without an index points and pixels differ in number.
        """
        shapes = (
            f"{self.kind}: {name}: the student's feature has the shape {tuple(student.shape[1:])}, the teacher's "
            f"{tuple(teacher.shape[1:])}"
        )
        if student.ndim not in (3, 4) or teacher.ndim != 4:
            raise InputError(
                f"{shapes}; choose a student's tap that gives points, and a teacher's that gives a map (D, H, W)"
            )
        points, pixels = as_tokens(student, self.layout), as_tokens(teacher)
        if self.index == "none" and points.shape[1] != pixels.shape[1]:
            raise InputError(f"{shapes}; without an index every point is the pixel of its number: set index")
        return make_projector(self.kind, name, points[:, 0], pixels[:, 0], self.projector)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the mean over the points that have a pixel, (N,); 0 for a sample without any."""
        points = as_tokens(student, self.layout)
        counted = counted_positions(step, student, self.layout)
        if self.index == "none":
            pixels = as_tokens(teacher)
        else:
            index = extra(step, self.index, self.kind).to(torch.long)
            self._check(index, points, teacher)
            counted, pixels = counted & (index >= 0), at_pixels(teacher, index)
        return mean_where(point_to_pixel(points if memory is None else memory(points), pixels, self.distance), counted)

    def _check(self, index: Tensor, points: Tensor, teacher: Tensor) -> None:
        rows, columns = teacher.shape[2:]
        if index.shape != points.shape[:2]:
            raise InputError(
                f"{self.kind}: {self.index!r} has the shape {tuple(index.shape)}, the student's points "
                f'{tuple(points.shape[:2])}; it has an entry a point (layout = "series": points last)'
            )
        if int(index.max()) >= rows * columns:
            raise InputError(
                f"{self.kind}: {self.index!r} holds the pixel {int(index.max())}, the teacher's map is {rows} x {columns}; "
                "give pixels of that map, not of the picture"
            )
