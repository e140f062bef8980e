"""Scene-level helpers of LiDAR pre-training: a context token, and an occupancy head that is dropped after training."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import PENULTIMATE, FeatureLoss
from edgekd.losses.feature.positions import LAYOUT, Layout, as_tokens, counted_positions, extra
from edgekd.losses.loss import Capability, Evidence, Loss
from edgekd.losses.step import Setup, Step, at_least_float32


class ContextPool(nn.Module):
    """A learnable token that looks at all positions, then a linear map to the teacher's width."""

    def __init__(self, width: int, wanted: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(width) / math.sqrt(width))
        self.out = nn.Linear(width, wanted)

    def forward(self, tokens: Tensor, counted: Tensor) -> Tensor:
        """Return W sum_p softmax_p(q . f_p / sqrt(D)) f_p, (N, E), of positions (N, P, D); only counted (N, P) are seen."""
        scores = tokens @ self.token / math.sqrt(tokens.shape[-1])
        scores = scores.masked_fill(~counted, torch.finfo(scores.dtype).min)
        return self.out((scores.softmax(1)[:, :, None] * tokens).sum(1))


class ContextToken(FeatureLoss):
    """1 - cos(context token, the teacher's class token)."""

    title: ClassVar[str] = "Context token"
    source: ClassVar[str] = "HilDA, arXiv 2606.20189, class token to 3-D context token"
    evidence: ClassVar[Evidence] = "D"
    variant: ClassVar[str] = "one token pools the student's positions by attention, outside the student"
    applies: ClassVar[str] = (
        "students of points, tokens or maps; teachers with a class token: first of (N, L, D), or (N, D)"
    )
    shape: ClassVar[Literal["tokens"]] = "tokens"
    exempt: ClassVar[dict[str, str]] = {
        "zero": "W and q are new: cos(W sum_p a_p f_p, cls_T) < 1 at f_S = f_T until they are trained"
    }

    kind: Literal["context-token"] = "context-token"
    layout: Layout = Field(default="tokens", description=LAYOUT)

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return the token and its map.

        Raises:
            InputError: the teacher's feature has no class token.
        """
        if teacher.ndim not in (2, 3):
            raise InputError(
                f"{self.kind}: {name}: the teacher's feature has the shape {tuple(teacher.shape[1:])}; choose a tap that "
                "gives tokens (L, D), the class token first, or a vector (D,)"
            )
        width = as_tokens(student, self.layout).shape[-1]
        return ContextPool(width, teacher.shape[-1]).to(student.device, at_least_float32(student).dtype)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the distance of every sample, (N,)."""
        assert memory is not None
        context = memory(as_tokens(student, self.layout), counted_positions(step, student, self.layout))
        wanted = teacher.detach() if teacher.ndim == 2 else teacher[:, 0].detach()
        return 1 - functional.cosine_similarity(context, wanted, dim=-1)


def occupancy_loss(logits: Tensor, grid: Tensor) -> Tensor:
    """Return the mean binary cross entropy over known cells for every sample, (N,); 0 where none is known.

    Args:
        logits: (N, M, h, w), pooled to the grid's size.
        grid: occupancies in [0, 1], (N, M, H, W); below 0: unknown.
    """
    logits = functional.adaptive_avg_pool2d(logits, (grid.shape[2], grid.shape[3]))
    known = (grid >= 0).to(logits.dtype)
    value = functional.binary_cross_entropy_with_logits(logits, grid.clamp(min=0).to(logits.dtype), reduction="none")
    return (value * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)


class Occupancy(Loss):
    """What a head on the student's map says of the cells around it, now and later, against what the sensor saw there."""

    capability: ClassVar[Capability] = "C02"
    title: ClassVar[str] = "Occupancy head"
    source: ClassVar[str] = "HilDA, arXiv 2606.20189, temporal bird's-eye-view occupancy"
    evidence: ClassVar[Evidence] = "D"
    variant: ClassVar[str] = "a 1x1 convolution and binary cross entropy in place of diffusion"
    applies: ClassVar[str] = (
        "student maps (N, C, H, W) seen from above; the data hold occupancy grids; no teacher is needed"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    shape: ClassVar[Literal["map"]] = "map"
    exempt: ClassVar[dict[str, str]] = {
        "zero": "BCE(w f_S, grid) compares with the data, no teacher; its least value is the grid's entropy"
    }

    kind: Literal["occupancy"] = "occupancy"
    tap: str = Field(default=PENULTIMATE, description="the student's map: a module path as in `edgekd inspect`")
    grid: str = Field(
        default="occupancy",
        description="the data's array of occupancies (N, M, H, W), (N, H, W), or (N,) for the whole area; below 0: unknown",
    )
    moments: int = Field(default=1, ge=1, description="M: how many moments the grid holds")

    @classmethod
    def example(cls) -> "Occupancy":
        """Return settings with one cell a sample."""
        return cls(grid="confidence")

    def student_taps(self) -> tuple[str, ...]:
        """Return the tap."""
        return (self.tap,)

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return the head.

        Raises:
            InputError: the student's feature is no map.
        """
        feature = setup.student.features[self.tap]
        if feature.ndim != 4:
            raise InputError(
                f"{self.kind}: {self.tap}: the student's feature has the shape {tuple(feature.shape[1:])}; choose a tap "
                "that gives a map (C, H, W)"
            )
        head = nn.Conv2d(feature.shape[1], self.moments, 1)
        return head.to(feature.device, at_least_float32(feature).dtype)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the loss of every sample, (N,).

        Raises:
            InputError: the grid holds another number of moments.
        """
        assert memory is not None
        grid = extra(step, self.grid, self.kind)
        grid = grid[:, None] if grid.ndim == 3 else grid.reshape(-1, 1, 1, 1) if grid.ndim == 1 else grid
        if grid.ndim != 4 or grid.shape[1] != self.moments:
            raise InputError(
                f"{self.kind}: {self.grid!r} has the shape {tuple(grid.shape)}; with moments = {self.moments} it is "
                f"(N, {self.moments}, H, W)"
            )
        return occupancy_loss(memory(at_least_float32(step.student.features[self.tap])), grid)
