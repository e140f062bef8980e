"""Distillation at the bottleneck alone, whose gradient there is as long as that of the task's loss."""

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.hint import hint
from edgekd.losses.loss import Evidence
from edgekd.losses.step import Setup, Step, at_least_float32, fitting

_ONE = 0.5413248546129181  # softplus of it is 1


def magnitude_ratio(task: Tensor, distillation: Tensor, feature: Tensor, epsilon: float = 1e-8) -> Tensor | None:
    """Return |dL_task/db| / (|dL_kd/db| + ε), both norms over the batch; QDR, magnitude reweighting.

    Args:
        task: the task's loss, a scalar.
        distillation: the loss at the bottleneck, a scalar.
        feature: b, which both are computed from.
        epsilon: ε.

    Returns:
        A scalar with no gradient; None where the task's loss does not depend on b.
    """
    found = [
        torch.autograd.grad(loss, feature, retain_graph=True, allow_unused=True)[0] for loss in (task, distillation)
    ]
    if found[0] is None or found[1] is None:
        return None
    norms = [at_least_float32(gradient).norm() for gradient in found]
    return norms[0] / (norms[1] + epsilon)


class Balance(nn.Module):
    """What weighs the two losses: ρ, which has a learning rate of its own, or the logarithms s of two variances."""

    rho: Tensor

    def __init__(self, learned: bool) -> None:
        super().__init__()
        self.register_buffer("rho", torch.tensor(_ONE))
        self.spread = nn.Parameter(torch.zeros(2)) if learned else None

    @torch.no_grad()
    def descend(self, ratio: Tensor, loss: Tensor, rate: float) -> None:
        """Take a step down d(softplus(ρ) ratio loss) / dρ = sigmoid(ρ) ratio loss."""
        self.rho -= rate * torch.sigmoid(self.rho) * ratio * loss


class Bottleneck(FeatureLoss):
    """The squared distance at one tap, scaled to what the task asks of it; no tap in the decoder, which would amplify errors.

    `balance = "uncertainty"` minimizes e^-s1 L_task + e^-s2 L_kd + s1 + s2 with learned s instead. Where the task's loss
    has no part in a phase, both are the plain distance at first.
    """

    title: ClassVar[str] = "Bottleneck with magnitude reweighting"
    source: ClassVar[str] = "QDR, arXiv 2603.09624; uncertainty: Kendall et al., arXiv 1705.07115, equation 7"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = (
        "λ = softplus(ρ) |dL_task/db| / (|dL_kd/db| + ε), norms detached, ρ learned by plain descent at a rate of its own"
    )
    applies: ClassVar[str] = "restoration and other encoder-decoders in quantized training; maps, vectors, tokens"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "labels"})
    shape: ClassVar[Literal["map"]] = "map"

    kind: Literal["bottleneck"] = "bottleneck"
    balance: Literal["magnitude", "uncertainty"] = Field(
        default="magnitude", description="what weighs it against the task's loss"
    )
    rate: float = Field(default=1e-3, ge=0, description="learning rate of ρ")

    @model_validator(mode="after")
    def _one_tap(self) -> Self:
        if len(self.taps) != 1 or self.layers is not None:
            raise ValueError("taps: name the one bottleneck, student tap = teacher tap, and no policy of layers")
        return self

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return what weighs the losses, beside what the pairs need."""
        memory = super().prepare(setup)
        assert memory is not None
        memory.balance = Balance(self.balance == "uncertainty")
        return memory

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the squared distance of every position."""
        return hint(student, teacher)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the distance times λ, or e^-s2.

        Raises:
            InputError: the task's loss does not depend on a tap.
        """
        value = super().__call__(step, memory)
        balance = None if memory is None else memory.balance
        if not isinstance(balance, Balance):
            return value
        if balance.spread is not None:
            return value * torch.exp(-balance.spread[1])
        factor = functional.softplus(balance.rho)
        if step.task is None or not step.task.requires_grad:
            return value * factor
        valid = fitting(step.valid, value)
        mean = value.mean() if valid is None else (value * valid).sum() / valid.sum().clamp(min=1)
        (feature,) = (step.student.features[tap] for tap in self.student_taps())
        ratio = magnitude_ratio(step.task, mean, feature)
        if ratio is None:
            raise InputError(
                f"{self.kind}: the task's loss does not depend on {self.student_taps()[0]}; tap the encoder's end"
            )
        ratio, loss = step.gather(torch.stack([ratio, mean.detach()])[None]).mean(0)
        balance.descend(ratio, loss, self.rate)
        return value * (factor * ratio)

    def own_loss(self, step: Step, memory: nn.Module | None = None) -> Tensor | None:
        """Return what makes e^-s1 L_task of the task's loss, and s1 + s2."""
        balance = None if memory is None else memory.balance
        if not isinstance(balance, Balance) or balance.spread is None:
            return super().own_loss(step, memory)
        task = 0.0 if step.task is None else (torch.exp(-balance.spread[0]) - 1) * step.task
        return task + balance.spread.sum()
