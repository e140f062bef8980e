"""Weights in blocks: every block of inputs of an output has a step of its own, and a zero point where it is not symmetric.

A weight is w = step (level - zero point), levels being signed integers of `bits` bits. A symmetric block spans
-max|w| to max|w| in 2^bits - 2 steps, another one its least to its greatest weight and 0 in 2^bits - 1.
Source: Dettmers et al., 8-bit Optimizers via Block-wise Quantization, 2022 (a step a block); Frantar et al., GPTQ, 2023,
section 4 (its rounding with grids fixed beforehand).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.stages.quantize.rounding import round_rows


@dataclass(frozen=True)
class Blocks:
    """Levels (groups, outputs, inputs) with steps and zero points (groups, outputs, blocks)."""

    levels: NDArray[np.int8]
    steps: NDArray[np.float32]
    zero_points: NDArray[np.int8] | None


def round_blocks(
    rows: NDArray[Any], bits: int, block: int, covariance: NDArray[Any] | None, *, symmetric: bool
) -> Blocks:
    """Round weights in blocks.

    Args:
        rows: the weights, (groups, outputs, inputs).
        bits: of a level.
        block: inputs that share a step; 0: all.
        covariance: of the inputs, (groups, inputs, inputs); None rounds each weight to its nearest.
        symmetric: without zero points.
    """
    inputs = rows.shape[2]
    size = block or inputs
    starts = np.arange(0, inputs, size)
    high = np.maximum(np.maximum.reduceat(rows, starts, axis=2), 0)
    low = np.minimum(np.minimum.reduceat(rows, starts, axis=2), 0)
    largest = 2 ** (bits - 1) - 1
    steps = np.maximum(high, -low) / largest if symmetric else (high - low) / (2**bits - 1)
    steps = np.where(steps > 0, steps, 1.0).astype(np.float32).astype(np.float64)
    zeros = np.zeros_like(steps) if symmetric else np.clip(np.round(-largest - 1 - low / steps), -largest - 1, largest)

    def spread(of_blocks: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(of_blocks, size, axis=2)[:, :, :inputs]

    of_weights, offsets = spread(steps), spread(zeros)
    least = -largest - (0 if symmetric else 1)
    rounded = round_rows(rows, of_weights, covariance, largest - offsets, least - offsets)
    levels = np.round(rounded / of_weights) + offsets
    return Blocks(levels.astype(np.int8), steps.astype(np.float32), None if symmetric else zeros.astype(np.int8))


def packed_bytes(weights: int, steps: int, bits: int, *, symmetric: bool) -> int:
    """Return the bytes of rounded weights: `bits` each, a float32 a step, and `bits` a zero point where there are some."""
    return math.ceil(weights * bits / 8) + 4 * steps + (0 if symmetric else math.ceil(steps * bits / 8))
