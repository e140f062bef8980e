"""The teacher sees more than the student: paired features and answers."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.crossmodal.pooling import sample_mean
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.projector import PROJECTOR, Projector, make_projector, project
from edgekd.losses.logit.kl import temperature_kl
from edgekd.losses.loss import Capability, Evidence
from edgekd.losses.schedule import Schedule, Temperature, constant
from edgekd.losses.step import Setup, Step


def feature_distance(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean of (f_S - f_T)^2 over channels and valid positions, (N,).

    Args:
        student: vectors (N, D), tokens (N, L, D) or maps (N, D, H, W).
        teacher: features of the same shape; no gradient flows into them.
        valid: positions that count, (N, L) or (N, H, W); else all do.
    """
    squares = (student - teacher.detach()).square()
    return sample_mean(squares.mean(1 if squares.ndim > 3 else -1), valid)


class Privileged(FeatureLoss):
    """lambda_f ||P f_S - f_T||^2 + lambda_l T^2 KL(p_T || p_S), of the same samples seen by both.

    The teacher's inputs (a second scan, a second sensor, a later record) are needed in training only.
    """

    capability: ClassVar[Capability] = "C05"
    title: ClassVar[str] = "Privileged information"
    source: ClassVar[str] = (
        "PET-guided MRI students, lambda_f = 1 and lambda_l = 0.3; Lopez-Paz et al., arXiv 1511.03643"
    )
    evidence: ClassVar[Evidence] = "S"
    variant: ClassVar[str] = "the feature term is a mean over channels, so that its size does not grow with them"
    applies: ClassVar[str] = "a teacher with inputs or modalities that the student lacks, on paired samples"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "features"})

    kind: Literal["privileged"] = "privileged"
    feature_weight: Schedule = Field(default=constant(1.0), description="lambda_f")
    logit_weight: Schedule = Field(default=constant(0.3), description="lambda_l")
    temperature: Temperature = Field(default=constant(4.0), description="T of the answers")
    output: str | None = Field(default=None, description="the output compared; not set: the first")
    projector: Projector = Field(default="auto", description=PROJECTOR)

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return the projector P, where one is needed."""
        return make_projector(self.kind, name, student, teacher, self.projector)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the loss of every sample."""
        student = step.class_last(step.student.output(self.output))
        teacher = step.class_last(step.the_teacher.output(self.output))
        answers = temperature_kl(student, teacher, self.temperature.at(step.progress))
        features = self.feature_weight.at(step.progress) * super().__call__(step, memory)
        return features + self.logit_weight.at(step.progress) * sample_mean(answers, step.valid)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the distance of the features of every sample."""
        return feature_distance(*project(student, teacher, memory), step.valid)
