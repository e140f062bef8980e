"""Knowledge distillation by softened probabilities."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Schedule, Temperature, constant
from edgekd.losses.step import Step, as_classes, at_least_float32

AUTO_SGD = Schedule(start=2.0, end=8.0)
Direction = Literal["forward", "reverse", "both", "jensen-shannon"]


def temperature_kl(
    student: Tensor, teacher: Tensor, temperature: float = 4.0, direction: Direction = "forward", beta: float = 0.5
) -> Tensor:
    """Return T² D(p_T, p_S) with p = softmax(z / T), for every element.

    forward: D = KL(p_T || p_S), Hinton et al., 2015, section 2. reverse: D = KL(p_S || p_T), which seeks one mode.
    both: their mean. jensen-shannon: D = b KL(p_T || m) + (1 - b) KL(p_S || m) with m = b p_T + (1 - b) p_S, Agarwal et
    al., 2024, equation 1.

    Args:
        student: logits (..., C); a single one (..., 1) tells yes from no.
        teacher: logits of the same shape; no gradient flows into them.
        temperature: T > 0, softens both distributions; T² keeps the gradient's size independent of it.
        direction: which divergence.
        beta: b of the Jensen-Shannon divergence, in (0, 1).

    Returns:
        (...), in at least float32.
    """
    log_student = torch.log_softmax(as_classes(at_least_float32(student)) / temperature, -1)
    log_teacher = torch.log_softmax(as_classes(at_least_float32(teacher.detach())) / temperature, -1)
    if direction == "forward":
        return temperature**2 * divergence(log_teacher, log_student)
    if direction == "reverse":
        return temperature**2 * divergence(log_student, log_teacher)
    if direction == "both":
        return temperature**2 * (divergence(log_teacher, log_student) + divergence(log_student, log_teacher)) / 2
    mixed = torch.logaddexp(log_teacher + math.log(beta), log_student + math.log(1 - beta))
    return temperature**2 * (beta * divergence(log_teacher, mixed) + (1 - beta) * divergence(log_student, mixed))


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p || q) of finite log probabilities (..., C), for every element."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


class Kl(OutputLoss):
    """T² times the divergence of the softened answers."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "KL with temperature"
    source: ClassVar[str] = "Hinton et al., arXiv 1503.02531, section 2; temperature by optimizer: arXiv 2603.02430"
    evidence: ClassVar[Evidence] = "A"
    applies: ClassVar[str] = "classes: (N, C), maps (N, C, H, W), tokens (N, L, C)"

    kind: Literal["kl"] = "kl"
    weight: Schedule = Field(default=constant(0.7), description="coefficient: a number, or a schedule")
    temperature: Temperature | Literal["auto"] = Field(
        default="auto", description="T; auto: 4, with SGD from 2 to 8 over training"
    )
    direction: Direction = Field(default="forward", description="KL of the teacher to the student, or the other way")
    beta: float = Field(default=0.5, gt=0, lt=1, description="share of the teacher in Jensen-Shannon's mixture")

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the divergence of every element."""
        return temperature_kl(student, teacher, temperature_at(self.temperature, step), self.direction, self.beta)


def temperature_at(temperature: Schedule | Literal["auto"], step: Step) -> float:
    """Return T at a step: the schedule's, or by optimizer (SGD wants it small early and large late; AdamW does not care)."""
    if temperature == "auto":
        return AUTO_SGD.at(step.progress) if step.optimizer == "sgd" else 4.0
    return temperature.at(step.progress)
