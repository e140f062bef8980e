"""KL in two parts with coefficients of their own: the labelled class, and the others among themselves."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.labels import known_labels
from edgekd.losses.logit.dbild import OUTSIDE
from edgekd.losses.logit.kl import divergence
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Schedule, Temperature, constant
from edgekd.losses.step import Step, at_least_float32


def decoupled_parts(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 4.0
) -> tuple[Tensor, Tensor]:
    """Return (TCKD, NCKD) for every element: Zhao et al., 2022, section 3.

    TCKD = KL(b_T || b_S), b = (p_y, 1 - p_y). NCKD = KL(r_T || r_S), r = softmax over the classes but y. They make up the
    whole: KL(p_T || p_S) = TCKD + (1 - p_T,y) NCKD.

    Args:
        student: logits (..., C).
        teacher: logits of the same shape; no gradient flows into them.
        labels: y (...), at least 0.
        temperature: T > 0 of p = softmax(z / T).

    Returns:
        twice (...), in at least float32, without T².
    """
    of_label = labels[..., None] == torch.arange(student.shape[-1], device=student.device)

    def parts(logits: Tensor) -> tuple[Tensor, Tensor]:
        scaled = at_least_float32(logits) / temperature
        own = scaled.gather(-1, labels[..., None])
        rest = scaled.masked_fill(of_label, OUTSIDE)
        binary = torch.cat([own, rest.logsumexp(-1, keepdim=True)], -1)
        return binary.log_softmax(-1), rest.log_softmax(-1)

    (own_student, rest_student), (own_teacher, rest_teacher) = parts(student), parts(teacher.detach())
    return divergence(own_teacher, own_student), divergence(rest_teacher, rest_student)


class Dkd(OutputLoss):
    """T² (alpha TCKD + beta NCKD)."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "Decoupled knowledge distillation (DKD)"
    source: ClassVar[str] = "Zhao et al., arXiv 2203.08679, equation 7"
    evidence: ClassVar[Evidence] = "A"
    applies: ClassVar[str] = "three classes or more, with labels: (N, C), maps (N, C, H, W)"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "labels"})

    kind: Literal["dkd"] = "dkd"
    alpha: Schedule = Field(default=constant(1.0), description="coefficient of the labelled class against the rest")
    beta: Schedule = Field(default=constant(8.0), description="coefficient of the other classes among themselves")
    temperature: Temperature = Field(default=constant(4.0), description="T")

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the loss of every element."""
        temperature = self.temperature.at(step.progress)
        target, others = decoupled_parts(student, teacher, known_labels(step, self.kind).clamp(min=0), temperature)
        return temperature**2 * (self.alpha.at(step.progress) * target + self.beta.at(step.progress) * others)
