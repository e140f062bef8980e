"""KL between logits brought to mean 0 and deviation 1, so that the student need not match the teacher's range."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.logit.kl import Direction, temperature_kl
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Temperature, constant
from edgekd.losses.step import Step, at_least_float32


def standardize(logits: Tensor) -> Tensor:
    """Return (z - mean z) / deviation z over the last axis (..., C), Sun et al., 2024, algorithm 1; 0 where z is constant.

    In at least float32. The deviation divides by C and is kept above 1e-3, for the gradient of constant logits.
    """
    logits = at_least_float32(logits)
    centred = logits - logits.mean(-1, keepdim=True)
    return centred / centred.square().mean(-1, keepdim=True).clamp(min=1e-6).sqrt()


class LogitStandardization(OutputLoss):
    """T² KL between the softmax of standardised logits over T."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "Standardised logits"
    source: ClassVar[str] = "Sun et al., arXiv 2403.01427, algorithms 1 and 2"
    evidence: ClassVar[Evidence] = "A"
    applies: ClassVar[str] = "teachers whose logits have another range: (N, C), maps (N, C, H, W), tokens (N, L, C)"

    kind: Literal["logit-standardization"] = "logit-standardization"
    temperature: Temperature = Field(default=constant(2.0), description="T, of logits with deviation 1")
    direction: Direction = Field(default="forward", description="KL of the teacher to the student, or the other way")

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the divergence of every element."""
        temperature = self.temperature.at(step.progress)
        return temperature_kl(standardize(student), standardize(teacher), temperature, self.direction)
