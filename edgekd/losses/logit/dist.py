"""Correlation in place of equality: how a sample ranks the classes, and how a class ranks the samples."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.losses.labels import elements_that_count
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Schedule, Temperature, constant
from edgekd.losses.step import Step


def pearson_distance(student: Tensor, teacher: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return 1 minus Pearson's correlation over the last axis, as Huang et al., 2022.

    Args:
        student: (..., K).
        teacher: of the same shape.
        counted: 1 or 0 (K,): which entries take part; None: all.

    Returns:
        (...), 0 to 2; 1 where one side is constant.
    """
    counted = student.new_ones(student.shape[-1]) if counted is None else counted.to(student)
    number = counted.sum(-1, keepdim=True).clamp(min=1)

    def centred(values: Tensor) -> Tensor:
        return (values - (values * counted).sum(-1, keepdim=True) / number) * counted

    return 1 - functional.cosine_similarity(centred(student), centred(teacher), dim=-1)


class Dist(OutputLoss):
    """T² (beta inter + gamma intra): distances of a sample's probabilities over classes, and of a class's over the batch.

    The second is one number a batch, added to every element.
    """

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "Correlation with a stronger teacher (DIST)"
    source: ClassVar[str] = "Huang et al., arXiv 2205.10536"
    evidence: ClassVar[Evidence] = "A"
    applies: ClassVar[str] = "teachers far stronger than the student: (N, C), maps (N, C, H, W), tokens (N, L, C)"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "batch"})

    kind: Literal["dist"] = "dist"
    beta: Schedule = Field(default=constant(2.0), description="coefficient over the classes of a sample (inter-class)")
    gamma: Schedule = Field(default=constant(2.0), description="coefficient over the samples of a class (intra-class)")
    temperature: Temperature = Field(default=constant(1.0), description="T; 4 for CIFAR-100")

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the distance of every element, with the batch's added."""
        temperature = self.temperature.at(step.progress)
        mine, yours = (student / temperature).softmax(-1), (teacher / temperature).softmax(-1)
        counted = None
        if step.valid is not None:
            counted = step.gather(elements_that_count(step, mine[..., 0]).flatten())
        inter = pearson_distance(mine, yours)
        intra = pearson_distance(
            step.gather(mine.flatten(0, -2)).T, step.gather(yours.flatten(0, -2)).T, counted
        ).mean()
        return temperature**2 * (self.beta.at(step.progress) * inter + self.gamma.at(step.progress) * intra)
