"""The KL divergence taken apart, so that the part its teacher would learn from reaches the student (GKL, IKL, DKL)."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.labels import elements_that_count, known_labels
from edgekd.losses.logit.class_means import ClassMeans, class_means
from edgekd.losses.logit.kl import temperature_kl
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Schedule, Temperature, constant
from edgekd.losses.step import Setup, Step, at_least_float32

WARM_UP = Schedule(start=0.0, end=1.0, until=0.083)  # 20 of 240 epochs


def weighted_mse(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """Return 1/4 sum_ij w_i w_j (a_i - a_j)² with a = z_T - z_S, for every element: Cui et al., 2023, theorem 1.

    In O(C): sum_ij w_i w_j (a_i - a_j)² = 2 W sum_i w_i (a_i - m)², W = sum_i w_i, m = sum_i w_i a_i / W.

    Args:
        student: logits (..., C).
        teacher: logits of the same shape; gradients flow into both.
        weights: w >= 0 (..., C), not all 0.

    Returns:
        (...)
    """
    difference = at_least_float32(teacher) - at_least_float32(student)
    total = weights.sum(-1, keepdim=True)
    mean = (weights * difference).sum(-1, keepdim=True) / total
    return total.squeeze(-1) * (weights * (difference - mean).square()).sum(-1) / 2


def decoupled_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return weighted_mse(stop z_S, z_T; w = p_T) + CE(stop p_T, p_S) - H(p_T), for every element of logits (..., C).

    Both of its gradients are those of KL(p_T || p_S), p = softmax(z): to the teacher by the first part, to the student by
    the second (Cui et al., 2023, theorem 1). Its value is another. H(p_T) is a constant; without it the loss of equal
    answers would not be 0.
    """
    return weighted_mse(student.detach(), teacher, teacher.detach().softmax(-1)) + temperature_kl(student, teacher, 1.0)


class _Weighted(OutputLoss):
    """beta wMSE + alpha (CE(p_T, p_S) - H(p_T)); no T² (the authors use none)."""

    capability: ClassVar[Capability] = "C01"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = "the teacher's entropy, a constant, is subtracted, so that equal answers give 0"
    applies: ClassVar[str] = "classes: (N, C), maps (N, C, H, W); in training it keeps 3 C x C numbers"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "labels"})

    weight: Schedule = Field(default=WARM_UP, description="coefficient; by default it warms up over the first 8 %")
    alpha: Schedule = Field(default=constant(1.0), description="coefficient of the cross-entropy")
    beta: Schedule = Field(default=constant(8.0), description="coefficient of the weighted MSE")
    temperature: Temperature = Field(default=constant(4.0), description="T of the cross-entropy")
    weights: Literal["class", "sample"] = Field(
        default="class", description="weights from the mean answer to the class in the epoch before, or to the sample"
    )
    weight_temperature: Temperature = Field(default=constant(4.0), description="T of the answers that give the weights")

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return the table of class means, 1 / C at first; None with weights by sample.

        Raises:
            InputError: there are no classes, or the output does not have them.
        """
        if self.weights == "sample":
            return None
        return class_means(self.kind, setup, next(iter(setup.teachers.values())), self.output, "uniform")

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the loss of every element."""
        weights = torch.softmax(teacher / self.weight_temperature.at(step.progress), -1)
        if isinstance(memory, ClassMeans):
            labels = known_labels(step, self.kind)
            memory.add(weights, labels, step)
            weights = memory.rows(labels).to(weights)
        weights = weights**self.power
        mse = weighted_mse(student, teacher, weights) / self.norm(weights, step)
        temperature = self.temperature.at(step.progress)
        kl = temperature_kl(student, teacher, temperature) / temperature**2
        return self.beta.at(step.progress) * mse + self.alpha.at(step.progress) * kl

    @property
    def needed(self) -> frozenset[str]:
        """Return what is needed: weights by sample do without labels."""
        return self.needs - {"labels"} if self.weights == "sample" else self.needs

    @property
    def power(self) -> float:
        """Return the power that smooths the weights."""
        return 1.0

    def norm(self, weights: Tensor, step: Step) -> Tensor | float:
        """Return what the weighted MSE is divided by, beside the number of elements."""
        return 1.0

    def end_epoch(self, memory: nn.Module | None, epoch: int) -> None:
        """Take the epoch's class means into use; a class that it lacked goes back to 1 / C."""
        if isinstance(memory, ClassMeans):
            memory.renew()


class Gkl(_Weighted):
    """Generalized KL: weights smoothed by a power, the weighted MSE divided by sum_b (sum_i w_i)²."""

    title: ClassVar[str] = "Generalized KL (GKL)"
    source: ClassVar[str] = "Cui et al., arXiv 2503.08038; normalisation as in the released code"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "labels", "batch"})

    kind: Literal["gkl"] = "gkl"
    beta: Schedule = Field(
        default=constant(16.0), description="coefficient of the weighted MSE; about 0.5 for ImageNet"
    )
    gamma: float = Field(default=0.05, ge=0, le=1, description="power of the weights; about 0.6 for ImageNet")

    @property
    def power(self) -> float:
        """Return gamma."""
        return self.gamma

    def norm(self, weights: Tensor, step: Step) -> Tensor | float:
        """Return the mean over the batch's valid elements, of all processes, of (sum_i w_i)²."""
        squares = weights.sum(-1).square()
        valid = elements_that_count(step, squares).to(squares.dtype)
        mean = step.gather(squares * valid).sum() / step.gather(valid).sum().clamp(min=1)
        return mean.clamp(min=torch.finfo(mean.dtype).tiny)


class Ikl(_Weighted):
    """Improved KL: weights by class, not smoothed."""

    title: ClassVar[str] = "Improved KL (IKL)"
    source: ClassVar[str] = "Cui et al., arXiv 2305.13948"

    kind: Literal["ikl"] = "ikl"


class Dkl(OutputLoss):
    """Decoupled KL: teaches a student of a frozen teacher what KL without T² teaches it; the base of IKL and GKL."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "Decoupled KL (DKL)"
    source: ClassVar[str] = "Cui et al., arXiv 2305.13948, theorem 1"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = "the teacher's entropy, a constant, is subtracted, so that equal answers give 0"
    applies: ClassVar[str] = "classes: (N, C), maps (N, C, H, W), tokens (N, L, C); a baseline for ikl and gkl"
    exempt: ClassVar[dict[str, str]] = {
        "gradient": "wMSE(stop z_S, z_T) + KL(p_T || p_S): the first part has a value but no gradient to z_S"
    }

    kind: Literal["dkl"] = "dkl"
    temperature: Temperature = Field(default=constant(4.0), description="T of both answers")

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the loss of every element."""
        temperature = self.temperature.at(step.progress)
        return decoupled_kl(student / temperature, teacher / temperature)
