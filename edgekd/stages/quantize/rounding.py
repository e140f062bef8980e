"""Rounding weights so that the layer's output changes least, not the weights themselves.

A layer computes y = W x + b. With weights Q on a grid and the bias moved by (W - Q) E[x], the mean of y stays, and

    E[|dy|²] = sum over rows of (W - Q) C (W - Q)^T,   C = covariance of x, measured on the calibration part.

Plain rounding is best where C is diagonal. Where inputs go together, the error of one weight can be made good by the
ones that are still to be rounded: column by column, with C^-1 = U^T U and U upper triangular,

    q_j = round(w_j),   w_k -= (w_j - q_j) U_jk / U_jj   for all k > j.

Source: Frantar et al., GPTQ, 2023 (with E[x x^T] for C; its mean part is the bias's business here); the update is that of
Hassibi and Stork, Optimal Brain Surgeon, 1993.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DAMPING = 0.01  # of the mean variance, added to the diagonal


def round_weights(
    weights: NDArray[Any], scales: NDArray[Any], covariance: NDArray[Any] | None, largest: int = 127
) -> NDArray[np.float64]:
    """Return the weights on their grid.

    Args:
        weights: (groups, outputs, inputs).
        scales: the step of each output, (groups, outputs).
        covariance: of the inputs, (groups, inputs, inputs); None rounds each weight to its nearest.
        largest: the grid is -largest..largest steps.
    """
    rest = weights.astype(np.float64)
    steps = scales[:, :, None]
    if covariance is None:
        return np.clip(np.round(rest / steps), -largest, largest) * steps
    size = rest.shape[2]
    variances = np.einsum("gii->gi", covariance)
    order = np.argsort(-variances.sum(0), kind="stable")  # what matters most is rounded first, with most left to help
    rest = rest[:, :, order]
    matrix = covariance[:, order][:, :, order].astype(np.float64)
    damping = DAMPING * variances.mean(1) + 1e-12
    matrix[:, np.arange(size), np.arange(size)] += damping[:, None]
    upper = np.linalg.cholesky(np.linalg.inv(matrix)).swapaxes(1, 2)
    rounded = np.empty_like(rest)
    for j in range(size):
        column = rest[:, :, j]
        rounded[:, :, j] = np.clip(np.round(column / steps[:, :, 0]), -largest, largest) * steps[:, :, 0]
        error = (column - rounded[:, :, j]) / upper[:, None, j, j]
        rest[:, :, j + 1 :] -= error[:, :, None] * upper[:, None, j, j + 1 :]
    back = np.empty_like(order)
    back[order] = np.arange(size)
    return rounded[:, :, back]
