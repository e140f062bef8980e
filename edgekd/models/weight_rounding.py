"""Rounding weights to few levels, with a scale an output channel or a group of inputs: pure functions.

Weights (outputs on any axis) are seen as groups (outputs, groups of inputs, weights of a group); what is missing in the last
group of a row is filled up with zeros. Scales have the shape (outputs, groups, 1).
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

Weights = Literal["int8", "int4", "ternary"]
Activations = Literal["int8", "float"]
Scales = Literal["absmax", "learned"]

BITS: dict[Weights, int] = {"int8": 8, "int4": 4, "ternary": 2}
HIGHEST: dict[Weights, int] = {"int8": 127, "int4": 7, "ternary": 1}
GROUP = 128  # weights that share a ternary scale
ZERO_RATIO = 0.15, 0.6  # between them ternary weights are healthy
LEAST = 2.0**-24  # above zero in float16


def in_groups(weight: Tensor, axis: int, block: int) -> Tensor:
    """Return weights as (outputs, groups, block); block 0 makes one group of an output channel."""
    rows = weight.movedim(axis, 0).flatten(1)
    block = block or rows.shape[1]
    return functional.pad(rows, (0, -rows.shape[1] % block)).unflatten(1, (-1, block))


def from_groups(groups: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    """Return groups (outputs, groups, block) as weights of that shape, without what was filled up."""
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return groups.flatten(1)[:, : math.prod(moved[1:])].reshape(moved).movedim(0, axis)


def scales_of(weight: Tensor, axis: int, block: int, weights: Weights) -> Tensor:
    """Return a scale for every group, (outputs, groups, 1): a statistic, with no gradient.

    int8, int4: max|W_g| / highest level. ternary: the mean of |W_g|, of which a normal distribution rounds a share of
    P(|w| < α / 2) = 0.31 to zero. Those of groups are kept in float16, see `as_stored`.
    Source: Ternary Mamba, arXiv 2606.18114, for the mean; 1.58-bit networks began with it (Ma et al., 2024).
    """
    groups = in_groups(weight.detach(), axis, block).abs()
    if weights == "ternary":
        counts = in_groups(torch.ones_like(weight), axis, block).sum(2, keepdim=True)
        scales = groups.sum(2, keepdim=True) / counts
    else:
        scales = groups.amax(2, keepdim=True) / HIGHEST[weights]
    return as_stored(scales.clamp(min=LEAST), block)


def scale_bits(block: int) -> int:
    """Return the bits of a scale in a file: there are many where they belong to groups, few where to output channels."""
    return 16 if block else 32


def as_stored(scales: Tensor, block: int) -> Tensor:
    """Return scales as a file keeps them."""
    return scales.half().float().clamp(min=LEAST) if scale_bits(block) == 16 else scales


def levels_of(groups: Tensor, scales: Tensor, highest: int) -> Tensor:
    """Return clip(round(w / s), -highest, highest)."""
    return (groups / scales).round().clamp(-highest, highest)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, instead: Tensor, factor: Tensor | float) -> Tensor:
        ctx.factor = factor
        return instead.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return gradient * ctx.factor, None, None


def straight_through(value: Tensor, instead: Tensor, factor: Tensor | float = 1.0) -> Tensor:
    """Return `instead`, with the gradient times `factor` going to `value`."""
    found: Tensor = _StraightThrough.apply(value, instead.detach(), factor)  # type: ignore[no-untyped-call]
    return found


def round_weights(groups: Tensor, scales: Tensor, highest: int) -> Tensor:
    """Return s clip(round(w / s), -highest, highest), straight-through: dŵ/dw = 1 inside the range, 0 outside.

    The gradient of s is round(w / s) - w / s inside, and the last level outside.
    Source: Esser et al., Learned Step Size Quantization, 2020, equations 1 to 3. edgekd variant: the range ends half a step
    behind the last level, so that the greatest weight of all is inside of its own.
    """
    inside = (groups / scales).clamp(-highest - 0.5, highest + 0.5)
    return straight_through(inside, levels_of(groups, scales, highest)) * scales


def round_ternary(groups: Tensor, scales: Tensor) -> Tensor:
    """Return α clip(round(w / α), -1, 1), straight-through everywhere: dŵ/dw = 1, so that no weight is stuck outside."""
    return straight_through(groups, scales * levels_of(groups, scales, 1))


def zero_ratio(weight: Tensor, scales: Tensor, axis: int, block: int) -> float:
    """Return the share of weights that are rounded to zero, ρ0 = P(Ŵ = 0); Ternary Mamba, arXiv 2606.18114."""
    groups = in_groups(weight.detach(), axis, block)
    filled = groups.numel() - weight.numel()
    return (int((levels_of(groups, scales, 1) == 0).sum()) - filled) / weight.numel()


def zero_ratio_alarm(ratios: Mapping[str, float]) -> str:
    """Return what is wrong with the zero ratios of layers, in words; empty where nothing is."""
    low, high = ZERO_RATIO
    wrong = {name: ratio for name, ratio in ratios.items() if not low <= ratio <= high}
    found = ", ".join(f"{name} {ratio:.0%}" for name, ratio in wrong.items())
    return (
        f"zero ratio outside of {low:.0%} to {high:.0%}: {found}; keep_float leaves a layer in float" if wrong else ""
    )


def stored_bits(shape: tuple[int, ...], axis: int, weights: Weights, block: int = 0) -> int:
    """Return the bits that a layer's weights take in a file: their levels, packed, and a scale a group.

    outputs x groups x (block x bits + bits of a scale), e.g. 2 + 16 / 128 = 2.125 bits a weight for ternary in groups of 128.
    """
    outputs, inputs = shape[axis], math.prod(shape) // shape[axis]
    size = block or inputs
    return outputs * math.ceil(inputs / size) * (size * BITS[weights] + scale_bits(block))
