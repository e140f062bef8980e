"""Regression onto what a teacher predicts together with its confidence."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.step import Step, at_least_float32


def confidence_regression(
    student: Tensor, teacher: Tensor, confidence: Tensor, own: Tensor | None = None, alpha: float = 0.2
) -> Tensor:
    """Return w (C |x_S - x_T| - alpha log C) with C = 1 + exp(c), or w |x_S - x_T| where the student gives no c.

    w is the teacher's confidence. C is the student's own: high where it is right, and - alpha log C keeps it from
    retreating. Wang et al., 2024, section 3.

    Args:
        student: points or other values (..., D).
        teacher: values of the same shape; no gradient flows into them.
        confidence: w >= 0, (...); no gradient flows into it.
        own: c of the student (...), any real number.
        alpha: weight of the student's log-confidence.

    Returns:
        (...).
    """
    distance = torch.linalg.vector_norm(student - teacher.detach(), dim=-1)
    if own is not None:
        log_own = functional.softplus(own)
        distance = log_own.exp() * distance - alpha * log_own
    return confidence.detach() * distance


class ConfidenceRegression(OutputLoss):
    """The distance of values such as point maps, weighted by the teacher's confidence."""

    capability: ClassVar[Capability] = "C02"
    title: ClassVar[str] = "Confidence-weighted regression"
    source: ClassVar[str] = "Multi-View 3D Reconstruction using KD; DUSt3R: Wang et al., arXiv 2312.14132, section 3"
    evidence: ClassVar[Evidence] = "S"
    variant: ClassVar[str] = "the teacher's confidence weighs the whole term; the student's own is optional"
    applies: ClassVar[str] = "values (N, D), point and depth maps (N, D, H, W)"
    shape: ClassVar[Literal["values"]] = "values"

    kind: Literal["confidence-regression"] = "confidence-regression"
    confidence: str = Field(
        default="confidence", description="the teacher's output, else the data's extra, with its confidence, 0 or above"
    )
    own: str | None = Field(
        default=None, description="the student's output with the logarithm of its own confidence; not set: it has none"
    )
    alpha: float = Field(default=0.2, ge=0, description="weight of the student's log-confidence")

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the weighted distance of every element.

        Raises:
            InputError: nothing holds the teacher's confidence.
        """
        outputs = step.the_teacher.outputs
        found = outputs.get(self.confidence, step.extras.get(self.confidence))
        if found is None:
            raise InputError(
                f"{self.kind}: neither the teacher's outputs ({', '.join(outputs)}) nor the data's extras "
                f"({', '.join(step.extras) or 'none'}) have {self.confidence!r}; set confidence to one of them"
            )
        own = None if self.own is None else _one_each(step.student.output(self.own), student, step)
        weight = _one_each(found, student, step).to(student.dtype)
        return confidence_regression(student, teacher, weight, own, self.alpha)


def _one_each(given: Tensor, values: Tensor, step: Step) -> Tensor:
    """Return one number an element of values (N, ..., D), or a sample: (N, ...) or (N, 1 ...)."""
    given = step.class_last(given).squeeze(-1) if given.ndim == values.ndim else at_least_float32(given)
    return given.reshape(given.shape + (1,) * (values.ndim - 1 - given.ndim))
