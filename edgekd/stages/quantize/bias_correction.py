"""Bias correction: rounding weights moves the mean of a layer's output; the bias takes that back.

For y = W x + b and rounded weights Q, E[y] moves by (Q - W) E[x]; the bias becomes b - (Q - W) E[x].
Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, section 4.2; E[x] is
measured on the calibration part here, padding included.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def correct_bias(
    bias: NDArray[Any], weights: NDArray[Any], rounded: NDArray[Any], mean: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the bias (all outputs,) for rounded weights.

    Args:
        bias: (all outputs,).
        weights: (groups, outputs, inputs).
        rounded: the same after rounding.
        mean: of the inputs, (groups, inputs).
    """
    shift = np.einsum("goi,gi->go", rounded - weights, mean)
    corrected: NDArray[np.float64] = bias.astype(np.float64) - shift.reshape(bias.shape)
    return corrected
