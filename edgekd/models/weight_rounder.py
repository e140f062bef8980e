"""A layer's weights on few levels while the network trains: a node of a fake-quantized graph."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.models.pt2e import FakeQuantizeBase
from edgekd.models.weight_rounding import (
    HIGHEST,
    Scales,
    Weights,
    as_stored,
    from_groups,
    in_groups,
    levels_of,
    round_ternary,
    round_weights,
    scales_of,
    straight_through,
    zero_ratio,
)

_LEAST_SHARE = 1e-3


class WeightRounder(FakeQuantizeBase):  # type: ignore[misc]  # torchao has no types
    """Rounds weights with scales that follow their statistics while the graph adapts, and hold otherwise.

    With learned scales, s = `share` x max|W_g| / highest level. The gradient of s is divided by
    sqrt(weights of a group x highest level). Source: Esser et al., Learned Step Size Quantization, 2020, section 2.2.
    edgekd variant: what is learned is the share of the greatest weight, so that Adam's steps are relative; those of plain
    SGD move s as in the paper.
    """

    base: Tensor

    def __init__(
        self, weights: Weights, shape: tuple[int, ...], axis: int, block: int, scales: Scales, **_spec: Any
    ) -> None:
        super().__init__()
        self.weights, self.shape, self.axis, self.block = weights, shape, axis, block
        size = tuple(in_groups(torch.empty(shape, device="meta"), axis, block).shape)
        self._of_gradient = 1 / math.sqrt(size[2] * HIGHEST[weights])
        self.register_buffer("base", torch.ones(*size[:2], 1))
        self.share = nn.Parameter(torch.ones(*size[:2], 1)) if scales == "learned" else None

    def calculate_qparams(self, **_: Any) -> tuple[Tensor, Tensor]:
        """Return scales and zero points."""
        return self.scale, torch.zeros_like(self.base, dtype=torch.int64)

    def reset_parameters(self) -> None:
        """Begin with the whole range."""
        if self.share is not None:
            nn.init.ones_(self.share)

    @torch.no_grad()
    def observe(self, weight: Tensor) -> None:
        """Take the scales from weights."""
        self.base.copy_(scales_of(weight, self.axis, self.block, self.weights))

    @property
    def scale(self) -> Tensor:
        """Return the scales (outputs, groups, 1) of now, as a file keeps them."""
        if self.share is None:
            return self.base
        share = self.share if self.observer_enabled[0] else self.share.detach()  # held with all other ranges
        scale = self.base * share.clamp(min=_LEAST_SHARE)
        return straight_through(scale, as_stored(scale, self.block), self._of_gradient / self.base.square())

    def levels(self, weight: Tensor) -> Tensor:
        """Return the integers that weights are rounded to, in groups (outputs, groups, block)."""
        return levels_of(in_groups(weight, self.axis, self.block), self.scale, HIGHEST[self.weights])

    def zero_ratio(self, weight: Tensor) -> float:
        """Return the share of weights that are rounded to zero."""
        return zero_ratio(weight, self.scale, self.axis, self.block)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weights, rounded."""
        if self.observer_enabled[0]:
            self.observe(weight)
        if not self.fake_quant_enabled[0]:
            return weight
        groups = in_groups(weight, self.axis, self.block)
        if self.weights == "ternary":
            rounded = round_ternary(groups, self.scale)
        else:
            rounded = round_weights(groups, self.scale, HIGHEST[self.weights])
        return from_groups(rounded, self.shape, self.axis)
