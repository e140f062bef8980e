"""A policy: one layer of the student learns from several of the teacher."""

from typing import ClassVar, Literal

from pydantic import Field, field_validator
from torch import Tensor, nn

from edgekd.losses.feature.feature_loss import LayerPolicy
from edgekd.losses.step import Step


class MultiLayer(LayerPolicy):
    """Every pair of a student's tap with each of its teacher's taps; the loss is their mean, weighted by coefficients."""

    title: ClassVar[str] = "Several teacher layers"
    source: ClassVar[str] = "HilDA, arXiv 2606.20189, multi-layer distillation"
    evidence: ClassVar[str] = "D"
    variant: ClassVar[str] = "fixed coefficients as written, scaled to a sum of 1"
    applies: ClassVar[str] = "any feature loss"

    kind: Literal["multi-layer"] = "multi-layer"
    taps: dict[str, dict[str, float]] = Field(
        min_length=1, description="student tap = { teacher tap = coefficient, ... }, coefficients above 0"
    )

    @field_validator("taps")
    @classmethod
    def _positive(cls, taps: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for student, layers in taps.items():
            if not layers or not all(coefficient > 0 for coefficient in layers.values()):
                raise ValueError(f"{student}: name at least one teacher tap, each with a coefficient above 0")
        return taps

    @classmethod
    def example(cls) -> "MultiLayer":
        """Return one tap against two."""
        return cls(taps={"penultimate": {"blocks.1": 0.75, "blocks.2": 0.25}})

    def student_taps(self) -> tuple[str, ...]:
        """Return the keys."""
        return tuple(self.taps)

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return every teacher's tap once."""
        return tuple(dict.fromkeys(layer for layers in self.taps.values() for layer in layers))

    def pairs(self, step: Step, memory: nn.Module | None) -> list[tuple[str, Tensor, Tensor]]:
        """Return the features of every pair."""
        student, teacher = step.student.features, step.the_teacher.features
        return [
            (f"{mine}~{yours}", student[mine], teacher[yours].detach())
            for mine, layers in self.taps.items()
            for yours in layers
        ]

    def coefficient(self, name: str) -> float:
        """Return the pair's coefficient."""
        mine, yours = name.split("~", 1)
        return self.taps[mine][yours]
