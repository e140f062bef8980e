"""Linear centred kernel alignment: how alike two representations are."""

import torch
from torch import Tensor

from edgekd.losses.step import at_least_float32


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """Return |XᵀY|² / (|XᵀX| |YᵀY|) of centred features, with Frobenius norms: 0 unrelated, 1 alike.

    It does not change with rotations, scales or shifts of either side. Kornblith et al., arXiv 1905.00414, section 3; as
    written it needs D x D matrices, none of N x N.

    Args:
        x: features (N, D).
        y: features (N, E) of the same samples.

    Returns:
        A scalar in [0, 1], in at least float32; 0 where a side is constant.
    """
    x, y = (at_least_float32(side) - at_least_float32(side).mean(0) for side in (x, y))
    x, y = (side / side.norm().clamp(min=torch.finfo(side.dtype).tiny) for side in (x, y))
    alike = (x.T @ x).norm() * (y.T @ y).norm()
    return (x.T @ y).square().sum() / alike.clamp(min=torch.finfo(alike.dtype).tiny)
