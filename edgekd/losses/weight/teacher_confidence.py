"""Trust the teacher where it is sure, and where it is right."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.labels import class_labels
from edgekd.losses.step import Step
from edgekd.losses.weight.shared import answer_last, class_probabilities, fitted
from edgekd.losses.weighting import SignalWeight


def certainty(probabilities: Tensor) -> Tensor:
    """Return 1 - H(p) / log C of probabilities (..., C): (...), from 0 for uniform ones to 1 for a single class."""
    entropy = torch.special.entr(probabilities).sum(-1)
    return (1 - entropy / math.log(probabilities.shape[-1])).clamp(0, 1)


def reliability(probabilities: Tensor, labels: Tensor | None = None, correctness: float = 0.5) -> Tensor:
    """Return (1 - b) (1 - H(p) / log C) + b 1[argmax p = y] where there is a label, else 1 - H(p) / log C.

    HADES, general form for any teacher.

    Args:
        probabilities: the teacher's (..., C).
        labels: classes (...), -1 where there is none; None: none at all.
        correctness: b in [0, 1], the share of being right.

    Returns:
        (...), within 0 and 1, without gradient.
    """
    sure = certainty(probabilities.detach())
    if labels is None:
        return sure
    right = (probabilities.argmax(-1) == labels).to(sure.dtype)
    return torch.where(labels >= 0, (1 - correctness) * sure + correctness * right, sure)


class TeacherConfidence(SignalWeight):
    """One minus the teacher's normalised entropy; with labels, mixed with whether it is right."""

    title: ClassVar[str] = "Teacher confidence"
    source: ClassVar[str] = "HADES, arXiv 2606.08978, reliability of a teacher's answer, for any teacher"
    evidence: ClassVar[str] = "D"
    variant: ClassVar[str] = "normalised entropy of any classifier, and correctness mixed in by a fixed share"
    applies: ClassVar[str] = "classes: samples, pixels, tokens; labels are optional"

    kind: Literal["teacher-confidence"] = "teacher-confidence"
    output: str | None = Field(default=None, description="the teacher's output looked at; not set: the first")
    correctness: float = Field(default=0.5, ge=0, le=1, description="share of being right, where there are labels")

    def __call__(self, step: Step, elementwise: Tensor, memory: nn.Module | None = None) -> Tensor:
        """Return the reliability of every element."""
        probabilities = class_probabilities(answer_last(step, step.the_teacher, self.output))
        labels = class_labels(step, probabilities.shape[:-1])
        return fitted(step, reliability(probabilities, labels, self.correctness), elementwise)
