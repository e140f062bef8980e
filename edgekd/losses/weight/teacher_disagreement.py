"""Trust teachers where they agree."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.step import Setup, Step
from edgekd.losses.weight.shared import answer_last, batch_mean, class_probabilities, fitted
from edgekd.losses.weighting import SignalWeight


def disagreement(probabilities: Tensor) -> Tensor:
    """Return mean_c Var_k p_k,c of K teachers' probabilities (K, ..., C): (...), 0 where all agree; HumP-KD."""
    return probabilities.detach().var(0, unbiased=False).mean(-1)


class TeacherDisagreement(SignalWeight):
    """exp(-v / mean v) with v the variance of the teachers' probabilities."""

    title: ClassVar[str] = "Teacher disagreement"
    source: ClassVar[str] = "HumP-KD, arXiv 2606.14684, variance of the teachers' predictions"
    evidence: ClassVar[str] = "A"
    variant: ClassVar[str] = "the exponential form and its scale, the batch's mean variance"
    applies: ClassVar[str] = "two teachers or more of the same classes"

    kind: Literal["teacher-disagreement"] = "teacher-disagreement"
    output: str | None = Field(default=None, description="the teachers' output looked at; not set: the first")

    def prepare(self, setup: Setup) -> None:
        """Check that there are teachers to disagree.

        Raises:
            InputError: there is one only.
        """
        if len(setup.teachers) < 2:
            raise InputError(
                f"{self.kind}: one teacher agrees with itself; give two teachers, or use teacher-confidence"
            )

    def __call__(self, step: Step, elementwise: Tensor, memory: nn.Module | None = None) -> Tensor:
        """Return the trust in every element."""
        answers = [class_probabilities(answer_last(step, answer, self.output)) for answer in step.teachers.values()]
        variance = disagreement(torch.stack(answers))
        usual = batch_mean(step, variance)
        return fitted(step, torch.exp(-variance / usual.clamp(min=torch.finfo(usual.dtype).tiny)), elementwise)
