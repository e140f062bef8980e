"""Masks of unstructured pruning, kept through training."""

import torch
from torch import Tensor, nn


class Masks:
    """The zeros among a network's weights when training begins; they are put back after every step.

    A tensor that is zero as a whole is no mask: layers may begin with zeros and learn.
    """

    def __init__(self, network: nn.Module) -> None:
        self._kept: list[tuple[nn.Parameter, Tensor]] = []
        for parameter in network.parameters():
            if parameter.ndim > 1 and parameter.is_floating_point():
                nonzero = parameter.detach() != 0
                if nonzero.any() and not nonzero.all():
                    self._kept.append((parameter, nonzero))

    @torch.no_grad()
    def apply(self) -> None:
        """Set the masked weights to zero again."""
        for parameter, nonzero in self._kept:
            parameter.mul_(nonzero)
