"""KL with temperature, and the angle between the logits."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.losses.logit.kl import temperature_at, temperature_kl
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Schedule, Temperature, constant
from edgekd.losses.step import Step, at_least_float32


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 - cos(z_S, z_T) for every element of logits (..., C), in at least float32; none flows into the teacher."""
    return 1 - functional.cosine_similarity(at_least_float32(student), at_least_float32(teacher.detach()), dim=-1)


class KlCosine(OutputLoss):
    """T² KL(p_T || p_S) + lambda (1 - cos(z_S, z_T))."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "KL and cosine"
    source: ClassVar[str] = "land-use distillation, arXiv 2606.14886"
    evidence: ClassVar[Evidence] = "A"
    applies: ClassVar[str] = "classes: (N, C), maps (N, C, H, W), tokens (N, L, C); scenes"

    kind: Literal["kl-cosine"] = "kl-cosine"
    temperature: Temperature | Literal["auto"] = Field(
        default="auto", description="T; auto: 4, with SGD from 2 to 8 over training"
    )
    cosine: Schedule = Field(default=constant(1.0), description="coefficient of the cosine part beside the KL")

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the loss of every element."""
        kl = temperature_kl(student, teacher, temperature_at(self.temperature, step))
        return kl + self.cosine.at(step.progress) * cosine_distance(student, teacher)
