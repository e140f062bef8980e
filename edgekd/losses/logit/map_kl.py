"""Saliency and attention maps compared as distributions over positions."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Temperature, constant
from edgekd.losses.step import Setup, Step, at_least_float32


def map_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0, valid: Tensor | None = None) -> Tensor:
    """Return T² KL(p_T || p_S) with p = softmax(m / T) over the positions, for every map.

    Shu et al., 2021, channel-wise distillation, with a map in place of a channel.

    Args:
        student: maps (..., P), scores of P positions.
        teacher: maps of the same shape; no gradient flows into them.
        temperature: T > 0.
        valid: boolean, broadcast to (..., P): the positions that count; a map without any gives 0.

    Returns:
        (...), in at least float32.
    """
    s, t = at_least_float32(student) / temperature, at_least_float32(teacher.detach()) / temperature
    if valid is not None:  # the lowest finite value: infinite ones would make 0 x inf of the terms left out
        s, t = (scores.masked_fill(~valid, torch.finfo(s.dtype).min) for scores in (s, t))
    log_s, log_t = torch.log_softmax(s, -1), torch.log_softmax(t, -1)
    return temperature**2 * (log_t.exp() * (log_t - log_s)).sum(-1)


class MapKl(OutputLoss):
    """Divergence of where student and teacher look."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "KL of maps over positions"
    source: ClassVar[str] = "Shu et al., arXiv 2011.13256, channel-wise distillation; saliency: arXiv 2606.14631"
    evidence: ClassVar[Evidence] = "D"
    variant: ClassVar[str] = "the softmax over positions is applied to an output map, averaged over its channels"
    applies: ClassVar[str] = "saliency, attention and cost maps (N, C, H, W), (N, H, W), (N, L)"
    shape: ClassVar[Literal["logits", "values", "mask", "vector", "map", "tokens", "series", "attention"]] = "mask"

    kind: Literal["map-kl"] = "map-kl"
    temperature: Temperature = Field(default=constant(1.0), description="T, softens both maps; the loss is times T²")

    def prepare(self, setup: Setup) -> None:
        """Check that the maps have one size.

        Raises:
            InputError: they have not.
        """
        student = setup.student.output(self.output)
        for teacher in (answer.output(self.output) for answer in setup.teachers.values()):
            if teacher.shape != student.shape:
                raise InputError(
                    f"{self.kind}: the student's map has the shape {tuple(student.shape)}, the teacher's "
                    f"{tuple(teacher.shape)}; give both one size, e.g. by resizing inside the teacher"
                )

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the mean divergence over the channels of every sample (N,)."""
        student, teacher = step.student.output(self.output), step.the_teacher.output(self.output)
        if student.ndim < 4:  # (N, H, W) or (N, L): one channel
            student, teacher = student[:, None], teacher[:, None]
        valid = step.valid
        valid = valid[:, None].flatten(2) if valid is not None and valid.shape[1:] == student.shape[2:] else None
        return map_kl(student.flatten(2), teacher.flatten(2), self.temperature.at(step.progress), valid).mean(-1)
