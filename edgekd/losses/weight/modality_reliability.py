"""Trust a sample as far as the modalities that it has are reliable."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.crossmodal.pooling import sample_mean
from edgekd.losses.labels import class_labels
from edgekd.losses.step import Step
from edgekd.losses.weight.shared import answer_last, array_of, class_probabilities
from edgekd.losses.weight.teacher_confidence import reliability
from edgekd.losses.weighting import SignalWeight


def modality_weight(reliabilities: Tensor, present: Tensor, temperature: float = 1.0) -> Tensor:
    """Return Σ_m r_m R_m with r the softmax of R / T over the modalities present; MRAF's fusion weights.

    Args:
        reliabilities: R (N, M) in [0, 1].
        present: boolean (N, M).
        temperature: T > 0; towards 0 the most reliable modality alone decides.

    Returns:
        (N,), 0 for a sample without any modality.
    """
    scores = (reliabilities / temperature).masked_fill(~present, torch.finfo(reliabilities.dtype).min)
    return torch.where(present, scores.softmax(-1) * reliabilities, 0.0).sum(-1)


class ModalityReliability(SignalWeight):
    """The teacher's reliability by modality, over the modalities that a sample has.

    A modality's answer is one named output of the teacher, or that of one teacher of several.
    """

    title: ClassVar[str] = "Modality reliability"
    source: ClassVar[str] = "MRAF, arXiv 2606.12495, reliability scores of modalities"
    evidence: ClassVar[str] = "D"
    variant: ClassVar[str] = "reliability is the confidence of the modality's own answer, not a learned score"
    applies: ClassVar[str] = "teachers with an answer a modality, classes (N, C)"

    kind: Literal["modality-reliability"] = "modality-reliability"
    outputs: tuple[str, ...] = Field(
        default=(), description="the teacher's output of each modality; none: one teacher each"
    )
    mask: str | None = Field(
        default="modalities", description="array of the data set (N, M): 1 where the modality is there; null: all are"
    )
    temperature: float = Field(default=0.1, gt=0, description="T of the softmax over the modalities")
    correctness: float = Field(default=0.5, ge=0, le=1, description="share of being right, where there are labels")

    @classmethod
    def example(cls) -> "ModalityReliability":
        """Return settings for one modality that is always there."""
        return cls(outputs=("output",), mask=None)

    def __call__(self, step: Step, elementwise: Tensor, memory: nn.Module | None = None) -> Tensor:
        """Return the weight of every sample (N,).

        Raises:
            InputError: the mask has not one column a modality.
        """
        if self.outputs:
            answers = [answer_last(step, step.the_teacher, name) for name in self.outputs]
        else:
            answers = [answer_last(step, teacher) for teacher in step.teachers.values()]
        found = []
        for probabilities in map(class_probabilities, answers):
            by_element = reliability(probabilities, class_labels(step, probabilities.shape[:-1]), self.correctness)
            found.append(sample_mean(by_element, step.valid))
        reliabilities = torch.stack(found, -1)
        if self.mask is None:
            return modality_weight(reliabilities, torch.ones_like(reliabilities, dtype=torch.bool), self.temperature)
        present = array_of(step, self.mask, self.kind, "the modalities that every sample has")
        if present.shape != reliabilities.shape:
            raise InputError(
                f"{self.kind}: {self.mask!r} has the shape {tuple(present.shape)}, but {reliabilities.shape[1]} answers of "
                "modalities are named; give the mask one column for each of `outputs`, or for each teacher"
            )
        return modality_weight(reliabilities, present > 0, self.temperature)
