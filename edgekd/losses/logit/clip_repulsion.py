"""Similarities of images and texts: first like the teacher's, later away from its confusions."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.counted import whole_batch
from edgekd.losses.loss import Capability, Evidence, Loss
from edgekd.losses.schedule import Schedule, Temperature, constant
from edgekd.losses.step import Answer, Setup, Step, at_least_float32


def similarities(image: Tensor, text: Tensor) -> Tensor:
    """Return the cosines (B, B) of every image (B, D), a row, with every text (B, D)."""
    return (
        functional.normalize(at_least_float32(image), dim=-1) @ functional.normalize(at_least_float32(text), dim=-1).T
    )


def split_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return the diagonal and the off-diagonal part of the rows' KL(P_T || P_S), P = softmax of a row, averaged.

    Row i: sum_j P_T,ij log(P_T,ij / P_S,ij), j = i for the one and j != i for the other; arXiv 2603.05421. A part alone
    may be negative.

    Args:
        student: similarities (B, B), divided by their temperature.
        teacher: similarities of the same shape; no gradient flows into them.
    """
    log_student = torch.log_softmax(student, -1)
    log_teacher = torch.log_softmax(teacher.detach(), -1)
    terms = log_teacher.exp() * (log_teacher - log_student)
    diagonal = terms.diagonal().mean()
    return diagonal, terms.sum(-1).mean() - diagonal


def clip_repulsion(student: Tensor, teacher: Tensor, beta: float, floor: float = -5.0) -> Tensor:
    """Return L_diag + max(beta L_off, floor), each the mean over rows and columns: arXiv 2603.05421.

    With beta < 0 the student is driven away from what the teacher confuses; L_off has no upper bound, so the floor is where
    that stops.

    Args:
        student: similarities (B, B), divided by their temperature.
        teacher: similarities of the same shape; no gradient flows into them.
        beta: coefficient of the off-diagonal part.
        floor: least value of beta L_off.

    Returns:
        a scalar.
    """
    rows, columns = split_kl(student, teacher), split_kl(student.T, teacher.T)
    diagonal, rest = (rows[0] + columns[0]) / 2, (rows[1] + columns[1]) / 2
    return diagonal + (beta * rest).clamp(min=floor)


def contrastive(similarity: Tensor) -> Tensor:
    """Return the cross-entropy of similarities (B, B), divided by their temperature, to their diagonal, rows and columns.

    Radford et al., arXiv 2103.00020, figure 3.
    """
    own = torch.arange(len(similarity), device=similarity.device)
    return (functional.cross_entropy(similarity, own) + functional.cross_entropy(similarity.T, own)) / 2


class ClipRepulsion(Loss):
    """Distillation of image-text similarities whose off-diagonal part turns to repulsion."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "Selective repulsive CLIP distillation"
    source: ClassVar[str] = "MobileFetalCLIP, arXiv 2603.05421"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = (
        "similarities are cosines and both temperatures CLIP's first, 0.07; the floor bounds beta L_off"
    )
    applies: ClassVar[str] = (
        "two outputs that are embeddings of the same sample: (N, D) each; the teacher's D may differ"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "batch"})
    elementwise: ClassVar[bool] = False
    exempt: ClassVar[dict[str, str]] = {
        "zero": "for P_S = P_T the gradient is (1 - beta) times that of L_diag, which is not 0 alone: -P_ii (d_ij - P_ij)"
    }

    kind: Literal["clip-repulsion"] = "clip-repulsion"
    image: str | None = Field(default=None, description="output with the images' embeddings; not set: the first")
    text: str | None = Field(default=None, description="output with the texts' embeddings; not set: the second")
    beta: Schedule = Field(
        default=Schedule(start=2.0, end=-0.8), description="coefficient of the off-diagonal part; below 0 it repels"
    )
    floor: float = Field(default=-5.0, le=0, description="least value of the off-diagonal part times beta")
    student_temperature: Temperature = Field(default=constant(0.07), description="divides the student's cosines")
    teacher_temperature: Temperature = Field(default=constant(0.07), description="divides the teacher's cosines")
    contrastive: Schedule = Field(
        default=constant(0.0),
        description="coefficient of the student's own contrastive loss, where no task's loss has it",
    )

    @classmethod
    def example(cls) -> "ClipRepulsion":
        """Return settings for one output, compared with itself."""
        return cls(image="output", text="output")

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return nothing; see that both embeddings are there.

        Raises:
            InputError: an output is missing, or the two differ in shape.
        """
        for who, answer in (("student", setup.student), *setup.teachers.items()):
            names = [name for name in (self.image, self.text) if name is not None]
            if not set(names) <= answer.outputs.keys() or (self.text is None and len(answer.outputs) < 2):
                raise InputError(
                    f"{self.kind}: {who} has the outputs {', '.join(answer.outputs)}; name the two embeddings: "
                    "image = NAME, text = NAME"
                )
            image, text = self._embeddings(answer)
            if image.ndim != 2 or image.shape != text.shape:
                raise InputError(
                    f"{self.kind}: {who}: the images' embeddings have the shape {tuple(image.shape)}, the texts' "
                    f"{tuple(text.shape)}; both are (N, D): name other outputs"
                )
        return None

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the loss of the batch of all processes; 0 where no sample counts."""
        student = similarities(*(whole_batch(embedding, step) for embedding in self._embeddings(step.student)))
        teacher = similarities(*(whole_batch(one.detach(), step) for one in self._embeddings(step.the_teacher)))
        if not len(student):
            return student.sum()
        student = student / self.student_temperature.at(step.progress)
        teacher = teacher / self.teacher_temperature.at(step.progress)
        loss = clip_repulsion(student, teacher, self.beta.at(step.progress), self.floor)
        return loss + self.contrastive.at(step.progress) * contrastive(student)

    def _embeddings(self, answer: Answer) -> tuple[Tensor, Tensor]:
        text = self.text if self.text is not None else list(answer.outputs)[1]
        return answer.output(self.image), answer.outputs[text]
