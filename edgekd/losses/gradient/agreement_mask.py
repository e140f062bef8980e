"""Only what variants of a sample agree on moves the weights."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from edgekd.losses.gradient.gradient_filter import GradientFilter
from edgekd.losses.step import at_least_float32


def agreement_mask(gradients: Tensor, tau: float = 1.0, epsilon: float = 1e-20) -> Tensor:
    """Return exp(-τ V) with V = Var_k(g) / (ḡ² + ε), for every element; IGA, mask by variance over groups.

    Args:
        gradients: (K, *shape), one a group.
        tau: τ >= 0, how strongly conflict is suppressed; 0: not at all.
        epsilon: ε, for elements whose mean is 0.

    Returns:
        (*shape), 1 where all groups agree, near 0 where they conflict, in at least float32.
    """
    gradients = at_least_float32(gradients)
    variance = gradients.var(0, unbiased=False)
    return torch.exp(-tau * variance / (gradients.mean(0).square() + epsilon))


class AgreementMask(GradientFilter):
    """The mean gradient, shrunk where the groups' gradients differ."""

    title: ClassVar[str] = "Agreement mask"
    source: ClassVar[str] = "IGA (invariant gradient alignment), arXiv 2606.05025, M = exp(-τ V)"
    evidence: ClassVar[str] = "A"
    variant: ClassVar[str] = "V is divided by the squared mean, and no projection to a LoRA rank follows"
    applies: ClassVar[str] = (
        "three groups or more of variants of the same samples; small or adapter networks: a backward pass each"
    )

    kind: Literal["agreement-mask"] = "agreement-mask"
    tau: float = Field(default=1.0, ge=0, description="τ, how strongly conflicting elements are suppressed")
    epsilon: float = Field(default=1e-20, gt=0, description="ε, for elements whose mean gradient is 0")

    def __call__(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return mask times mean for every parameter."""
        return {
            name: (agreement_mask(gradient, self.tau, self.epsilon) * at_least_float32(gradient).mean(0)).to(
                gradient.dtype
            )
            for name, gradient in gradients.items()
        }
