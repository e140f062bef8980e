"""LEAP: tokens learn from one teacher block after the other."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.feature.cka_curriculum import MAX_EPOCHS, RATE, SNAP, THRESHOLD, CkaCurriculum
from edgekd.losses.feature.feature_loss import PENULTIMATE, FeatureLoss
from edgekd.losses.feature.positions import counted_positions, mean_where
from edgekd.losses.feature.projector import make_projector
from edgekd.losses.loss import Evidence
from edgekd.losses.schedule import Schedule, constant
from edgekd.losses.step import Setup, Step


class Leap(FeatureLoss):
    """MSE(P h_S, h_T^b) of the patch tokens + cls MSE(P_c cls_S, cls_T^b), with block b of a CKA curriculum."""

    title: ClassVar[str] = "LEAP"
    source: ClassVar[str] = "LEAP, arXiv 2606.19483"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = "projectors only where widths differ, one a block"
    applies: ClassVar[str] = "tokens (N, L, D) of vision transformers, the class token first"
    needs: ClassVar[frozenset[str]] = CkaCurriculum.needs
    shape: ClassVar[Literal["tokens"]] = "tokens"

    kind: Literal["leap"] = "leap"
    student: str = Field(description="student's tap")
    blocks: tuple[str, ...] = Field(min_length=1, description="teacher's taps, in order")
    threshold: float = Field(default=0.85, gt=0, le=1, description=THRESHOLD)
    rate: float = Field(default=0.05, gt=0, le=1, description=RATE)
    max_epochs: int = Field(default=5, ge=1, description=MAX_EPOCHS)
    snap_to_last_at: float | None = Field(default=None, ge=0, le=1, description=SNAP)
    cls: Schedule = Field(
        default=constant(0.05), description="coefficient of the first token; 0: there is no class token"
    )

    @model_validator(mode="after")
    def _own_layers(self) -> "Leap":
        if self.layers is not None or self.taps != {PENULTIMATE: PENULTIMATE}:
            raise ValueError("leap compares student with blocks; leave taps and layers out, or use hint")
        return self

    @classmethod
    def example(cls) -> "Leap":
        """Return settings with one block."""
        return cls(student="blocks.1", blocks=("blocks.3",))

    @property
    def policy(self) -> CkaCurriculum:
        """Return the curriculum."""
        return CkaCurriculum(
            student=self.student,
            blocks=self.blocks,
            threshold=self.threshold,
            rate=self.rate,
            max_epochs=self.max_epochs,
            snap_to_last_at=self.snap_to_last_at,
        )

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return P and P_c, if widths differ.

        Raises:
            InputError: the features are not tokens.
        """
        if student.ndim != 3 or teacher.ndim != 3:
            raise InputError(
                f"{self.kind}: {name}: the student's feature has the shape {tuple(student.shape[1:])}, the teacher's "
                f"{tuple(teacher.shape[1:])}; choose taps that give tokens (L, D), or hint with layers = cka-curriculum"
            )
        first = 0 if self.cls.always_zero else 1
        patches = make_projector(self.kind, name, student[:, first:], teacher[:, first:], "auto")
        token = make_projector(self.kind, name, student[:, 0], teacher[:, 0], "auto")
        return None if patches is None or token is None else nn.ModuleDict({"patches": patches, "token": token})

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the loss of every sample, (N,)."""
        counted = counted_positions(step, student)
        made = memory if isinstance(memory, nn.ModuleDict) else {"patches": nn.Identity(), "token": nn.Identity()}
        first = 0 if self.cls.always_zero else 1
        apart = (made["patches"](student[:, first:]) - teacher[:, first:].detach()).square().mean(-1)
        loss = mean_where(apart, counted[:, first:])
        if first:
            token = (made["token"](student[:, 0]) - teacher[:, 0].detach()).square().mean(-1)
            loss = loss + self.cls.at(step.progress) * token * counted[:, 0]
        return loss
