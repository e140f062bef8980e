"""Cross-resolution: tokens of a small picture regress what the teacher sees in the large one."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.positions import counted_positions, extra, mean_where
from edgekd.losses.feature.projector import PROJECTOR, Projector, make_projector
from edgekd.losses.loss import Evidence
from edgekd.losses.schedule import Schedule, constant
from edgekd.losses.step import Setup, Step, at_least_float32


def patch_means(student: Tensor, rows: int, columns: int) -> Tensor:
    """Return the mean of the tokens that cover each patch, (N, D, h, w), of tokens (N, D, f h, f w).

    LRMIL, arXiv 2606.06864, where f = 4.
    """
    return functional.avg_pool2d(student, (student.shape[2] // rows, student.shape[3] // columns))


def attention_term(tile: Tensor, patches: Tensor, attention: Tensor) -> Tensor:
    """Return sum_j a_j mean_d (CLS_T,j - f_S)² for every sample, (N,), with a_j at a sum of 1. LRMIL, arXiv 2606.06864.

    Args:
        tile: f_S, the student's vectors (N, D).
        patches: the teacher's class tokens (N, D, h, w).
        attention: its attention to each patch, (N, h, w), >= 0.
    """
    apart = (patches.detach() - tile[:, :, None, None]).square().mean(1).flatten(1)
    weight = at_least_float32(attention.detach()).flatten(1).to(apart.dtype)
    return (apart * weight).sum(1) / weight.sum(1).clamp(min=1e-12)


class CrossResolution(FeatureLoss):
    """MSE of the mean student token over a patch and the teacher's class token of that patch; a mean over patches, layers."""

    title: ClassVar[str] = "Cross-resolution distillation"
    source: ClassVar[str] = "LRMIL, arXiv 2606.06864, first stage"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = "any whole ratio of the grids, widths bridged by a projector"
    applies: ClassVar[str] = (
        "student maps of tokens (N, D, H, W) of a low-resolution tile; teacher maps (N, D, h, w) with the class token of "
        "each high-resolution patch inside it, H = f h, W = f w"
    )
    shape: ClassVar[Literal["map"]] = "map"

    kind: Literal["cross-resolution"] = "cross-resolution"
    projector: Projector = Field(default="auto", description=PROJECTOR)
    tile: str | None = Field(default=None, description="student's tap of the whole tile's vector (N, D), for attention")
    attention: str | None = Field(
        default=None,
        description="the data's array (N, h, w) with the teacher's attention to each patch; not set: no such term",
    )
    attention_weight: Schedule = Field(default=constant(1.0), description="coefficient of the attention-weighted term")

    @model_validator(mode="after")
    def _both(self) -> "CrossResolution":
        if (self.tile is None) != (self.attention is None):
            raise ValueError("the attention-weighted term needs both tile and attention; set the other too, or neither")
        return self

    def student_taps(self) -> tuple[str, ...]:
        """Return the taps of the layers, and the tile's."""
        return (*super().student_taps(), *(() if self.tile is None else (self.tile,)))

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return the projectors of the layers and of the tile's vector."""
        memory = super().prepare(setup)
        if self.tile is not None and memory is not None:
            last = next(iter(setup.teachers.values())).features[self.teacher_taps()[-1]]
            tile = setup.student.features[self.tile]
            made = make_projector(self.kind, self.tile, tile, last[:, :, 0, 0], self.projector)
            memory.register_module("tile", made)
        return memory

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return the projector, if there is one.

        Raises:
            InputError: the student's grid is no whole multiple of the teacher's.
        """
        grids = (student.shape[2:], teacher.shape[2:])
        if student.ndim != 4 or teacher.ndim != 4 or any(mine % yours for mine, yours in zip(*grids, strict=True)):
            raise InputError(
                f"{self.kind}: {name}: the student's feature has the shape {tuple(student.shape[1:])}, the teacher's "
                f"{tuple(teacher.shape[1:])}; both are maps (D, H, W), the student's grid a whole multiple of the teacher's"
            )
        return make_projector(self.kind, name, patch_means(student, *teacher.shape[2:]), teacher, self.projector)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the loss of every sample, (N,)."""
        loss = super().__call__(step, memory)
        if self.tile is None or self.attention is None:
            return loss
        tile = at_least_float32(step.student.features[self.tile])
        projector = None if memory is None else memory.tile
        patches = at_least_float32(step.the_teacher.features[self.teacher_taps()[-1]])
        term = attention_term(
            projector(tile) if isinstance(projector, nn.Module) else tile,
            patches,
            extra(step, self.attention, self.kind),
        )
        return loss + self.attention_weight.at(step.progress) * term

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the mean over the patches, (N,)."""
        means = patch_means(student, teacher.shape[2], teacher.shape[3])
        means = means if memory is None else memory(means)
        return mean_where((means - teacher.detach()).square().mean(1).flatten(1), counted_positions(step, teacher))
