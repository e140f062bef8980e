"""Scores and values regressed to the teacher's: squared error, soft targets, and differences between candidates."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Temperature, constant
from edgekd.losses.step import Setup, Step, at_least_float32

Shape = Literal["logits", "values", "mask", "vector", "map", "tokens", "series", "attention"]


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Return mean_c (s_c - t_c)², for every element.

    Args:
        student: values (..., C).
        teacher: values of the same shape; no gradient flows into them.

    Returns:
        (...), in at least float32.
    """
    return (at_least_float32(student) - at_least_float32(teacher.detach())).square().mean(-1)


def soft_bce(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return mean_c T² [BCE(s_c / T, q_c) - H(q_c)] with q = sigmoid(t / T), for every element.

    H is the entropy of the target, so the loss is T² KL(q || sigmoid(s / T)) and vanishes where both are equal.

    Args:
        student: logits (..., C) of C independent yes-or-no answers.
        teacher: logits of the same shape; no gradient flows into them.
        temperature: T > 0.

    Returns:
        (...), in at least float32.
    """
    s, t = at_least_float32(student) / temperature, at_least_float32(teacher.detach()) / temperature
    yes = torch.sigmoid(t) * (functional.logsigmoid(t) - functional.logsigmoid(s))
    no = torch.sigmoid(-t) * (functional.logsigmoid(-t) - functional.logsigmoid(-s))
    return temperature**2 * (yes + no).mean(-1)


def margin_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Return mean_k [(s_0 - s_k) - (t_0 - t_k)]² over the negatives k > 0, for every query.

    Hofstätter et al., 2020, Margin-MSE.

    Args:
        student: scores (N, K) of K candidates, the positive one in column 0.
        teacher: scores of the same shape; no gradient flows into them.

    Returns:
        (N,), in at least float32.
    """
    s, t = at_least_float32(student), at_least_float32(teacher.detach())
    return squared_error(s[..., :1] - s[..., 1:], t[..., :1] - t[..., 1:])


class ScoreLoss(OutputLoss):
    """A loss between scores: one value a sample (N,) counts as (N, 1)."""

    capability: ClassVar[Capability] = "C01"

    def prepare(self, setup: Setup) -> None:
        """Check that the scores have one shape.

        Raises:
            InputError: they have not.
        """
        student = setup.student.output(self.output)
        for teacher in (answer.output(self.output) for answer in setup.teachers.values()):
            if teacher.squeeze().shape != student.squeeze().shape:
                raise InputError(
                    f"{self.kind}: the student's output has the shape {tuple(student.shape)}, the teacher's "
                    f"{tuple(teacher.shape)}; name an output that both have with `output`"
                )

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Compare the outputs, channels last."""
        student, teacher = step.student.output(self.output), step.the_teacher.output(self.output).detach()
        if student.ndim == 1:
            return self.compare(student[:, None], teacher.reshape(-1, 1), step, memory)
        return self.compare(step.class_last(student), step.class_last(teacher.reshape(student.shape)), step, memory)


class Mse(ScoreLoss):
    """Squared error to the teacher's values."""

    title: ClassVar[str] = "Squared error"
    source: ClassVar[str] = "Ba and Caruana, arXiv 1312.6184, section 2.2; of probabilities: DS-MLP"
    evidence: ClassVar[Evidence] = "A"
    applies: ClassVar[str] = "values and scores (N,), (N, C), maps (N, C, H, W); logits of classes"
    shape: ClassVar[Shape] = "values"

    kind: Literal["mse"] = "mse"
    of: Literal["values", "probabilities"] = Field(
        default="values", description="what is compared: outputs as they are, or their sigmoid"
    )

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the error of every element."""
        if self.of == "probabilities":
            student, teacher = torch.sigmoid(at_least_float32(student)), torch.sigmoid(at_least_float32(teacher))
        return squared_error(student, teacher)


class Bce(ScoreLoss):
    """Cross entropy with the teacher's soft yes-or-no answers."""

    title: ClassVar[str] = "Binary cross entropy with soft targets"
    source: ClassVar[str] = "Hinton et al., arXiv 1503.02531, section 2, for independent yes-or-no answers"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = "the target's entropy is subtracted, so that it vanishes at equality"
    applies: ClassVar[str] = "multi-label logits (N, C), click scores (N,), binary masks (N, 1, H, W)"

    kind: Literal["bce"] = "bce"
    temperature: Temperature = Field(default=constant(1.0), description="T, softens both answers; the loss is times T²")

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the divergence of every element."""
        return soft_bce(student, teacher, self.temperature.at(step.progress))


class MarginMse(OutputLoss):
    """Squared error of the margins between the positive and each negative candidate."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "MarginMSE"
    source: ClassVar[str] = "Hofstätter et al., arXiv 2010.02666, Margin-MSE"
    evidence: ClassVar[Evidence] = "A"
    applies: ClassVar[str] = "scores (N, K) of K candidates a query, the positive one first"

    kind: Literal["margin-mse"] = "margin-mse"

    def prepare(self, setup: Setup) -> None:
        """Check that both score the same candidates, and that there are negatives.

        Raises:
            InputError: they do not.
        """
        check_candidates(
            self.kind, setup.student.output(self.output), [a.output(self.output) for a in setup.teachers.values()]
        )

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the error of every query."""
        return margin_mse(student, teacher)


def check_candidates(kind: str, student: Tensor, teachers: list[Tensor]) -> None:
    """Check that all are scores (N, K) of the same K >= 2 candidates.

    Raises:
        InputError: they are not.
    """
    for teacher in teachers:
        if student.ndim != 2 or student.shape[1] < 2 or teacher.shape != student.shape:
            raise InputError(
                f"{kind}: the student's scores have the shape {tuple(student.shape)}, the teacher's "
                f"{tuple(teacher.shape)}; both must be (samples, candidates) with the positive candidate first and one "
                "negative at least; name the output that holds scores with `output`"
            )
