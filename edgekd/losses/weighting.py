"""How much each sample, position or teacher counts."""

from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor, nn

from edgekd.losses.method import Method
from edgekd.losses.step import Setup, Step

WEIGHTS: dict[str, type["SignalWeight"]] = {}


class SignalWeight(Method):
    """A weight a sample or position, from what the step shows; no gradient flows through it.

    The weights are scaled to a mean of 1 by the engine, so that a loss's coefficient keeps its meaning. A subclass with a
    `kind` of its own registers itself.
    """

    registry: ClassVar[dict[str, Any]] = WEIGHTS
    capability: ClassVar[str] = "C03"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})

    @classmethod
    def example(cls) -> "SignalWeight":
        """Return settings for the tests that hold for every weight."""
        return cls()  # type: ignore[call-arg]

    def student_taps(self) -> tuple[str, ...]:
        """Return the module paths of the student whose outputs are captured."""
        return ()

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return the module paths of the teacher that are needed now."""
        return ()

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return what lives only in training (policies, learned weights, tables), or None."""
        return None

    def __call__(self, step: Step, elementwise: Tensor, memory: nn.Module | None = None) -> Tensor:
        """Return weights >= 0 that broadcast to the elementwise loss (N, ...)."""
        raise TypeError(f"{type(self).__name__} has no __call__")

    def update(self, memory: nn.Module | None, task_loss: float) -> None:
        """Learn from the task loss after the optimizer's step (policies only)."""


def broadcast_weight(weight: Tensor, elementwise: Tensor) -> Tensor:
    """Return weights (N,) or (N, ...), detached, in the shape of the elementwise loss."""
    return weight.detach().reshape(weight.shape + (1,) * (elementwise.ndim - weight.ndim)).expand_as(elementwise)


def mean_one(weight: Tensor, elementwise: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return weights (broadcast to `elementwise`, detached) whose mean over the valid elements is 1; ones if all are 0."""
    weight = broadcast_weight(weight, elementwise)
    counted = torch.ones_like(weight) if valid is None or valid.shape != weight.shape else valid.to(weight.dtype)
    mean = (weight * counted).sum() / counted.sum().clamp(min=1)
    return torch.where(mean > 0, weight / mean.clamp(min=torch.finfo(weight.dtype).tiny), torch.ones_like(weight))


def _find_weight(value: Any) -> Any:
    import edgekd.losses  # registers all
    from edgekd.losses.loss import find_kind

    return find_kind(value, edgekd.losses.WEIGHTS, "importance")


AnyWeight = Annotated[SerializeAsAny[SignalWeight], BeforeValidator(_find_weight)]
