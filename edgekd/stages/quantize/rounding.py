"""Rounding weights so that the layer's output changes least, not the weights themselves.

A layer computes y = W x + b. With weights Q on a grid and the bias moved by (W - Q) E[x], the mean of y stays, and

    E[|dy|²] = sum over rows of (W - Q) C (W - Q)^T,   C = covariance of x, measured on the calibration part.

Rounding every weight to its nearest is best where C is diagonal. Where inputs go together, the error of one weight can
be made good by those that are still to be rounded: one input after the other, with C^-1 = U^T U and U upper triangular,

    q_j = round(w_j),   w_k -= (w_j - q_j) U_jk / U_jj   for all k > j.

A weight that is exactly zero is masked: q_j = 0. The covariance of a row is then that of the inputs whose weights it has
left; of very many the one of all inputs is taken, and the zeros' errors are passed on like any other.

Source: Frantar et al., GPTQ, 2023, with the covariance in place of E[x x^T] where the bias takes care of the mean; the
update is that of Hassibi and Stork, Optimal Brain Surgeon, 1993. Masked rows apart are an edgekd variant.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekd.stages.quantize.bias_correction import correct_bias
from edgekd.stages.quantize.layers import Layer, array_of, find_layers
from edgekd.stages.quantize.observation import Moments
from edgekd.stages.quantize.settings import Rounding
from edgekd.target import QuantizationScheme

_DAMPING = 0.01  # of the mean variance, added to the diagonal
_BLOCK = 64  # inputs whose errors are passed on to the later ones together
_APART = 1024  # weights that a masked row may have left to be rounded on its own: the time grows with their cube


@dataclass(frozen=True)
class RoundedLayer:
    """A layer with weights on their grid: the step of each output, or one for all of them."""

    layer: Layer
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    steps: NDArray[np.float32]


def round_layers(
    model: onnx.ModelProto,
    moments: dict[str, Moments],
    scheme: QuantizationScheme,
    rounding: Rounding,
    *,
    bias_correction: bool,
) -> list[RoundedLayer]:
    """Round the weights of all layers, for symmetric schemes; others leave it to the executor."""
    if not scheme.weight_symmetric:
        return []
    largest = scheme.weight_limit
    made = []
    for layer in find_layers(model):
        rows = layer.rows(array_of(model, layer.weight))
        steps = np.abs(rows).max(axis=2 if scheme.per_channel else None, keepdims=True) / largest
        steps = np.where(steps > 0, steps, 1.0).astype(np.float32).astype(np.float64)
        known = moments.get(layer.node)
        corrects = bias_correction and layer.bias is not None and known is not None
        error = None
        if known is not None and known.covariance is not None and rounding == "least-output-error":
            mean = known.mean
            error = known.covariance if corrects else known.covariance + mean[:, :, None] * mean[:, None, :]
        rounded = round_rows(rows, np.broadcast_to(steps[:, :, 0], rows.shape[:2]), error, largest)
        bias = None
        if corrects and layer.bias is not None and known is not None:
            bias = correct_bias(array_of(model, layer.bias), rows, rounded, known.mean).astype(np.float32)
        made.append(RoundedLayer(layer, layer.weights_of(rounded), bias, steps.reshape(-1).astype(np.float32)))
    return made


def with_rounded(model: onnx.ModelProto, layers: list[RoundedLayer]) -> onnx.ModelProto:
    """Return the float graph with these layers' weights and biases in place of its own."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in changed.graph.initializer}
    for one in layers:
        tensors[one.layer.weight].CopyFrom(numpy_helper.from_array(one.weight, one.layer.weight))
        if one.layer.bias is not None and one.bias is not None:
            tensors[one.layer.bias].CopyFrom(numpy_helper.from_array(one.bias, one.layer.bias))
    return changed


def round_rows(
    weights: NDArray[Any],
    steps: NDArray[Any],
    covariance: NDArray[Any] | None,
    largest: int | NDArray[Any],
    least: int | NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Return the weights on their grid; zeros stay zero.

    Args:
        weights: (groups, outputs, inputs).
        steps: of each output, (groups, outputs), or of each of its inputs, (groups, outputs, inputs).
        covariance: of the inputs, (groups, inputs, inputs); None rounds each weight to its nearest.
        largest: the grid ends at so many steps; one number, or one for each weight.
        least: and begins at so many; None: at -largest.
    """
    rest, zero = weights.astype(np.float64), weights == 0
    steps = np.broadcast_to(steps if steps.ndim == rest.ndim else steps[:, :, None], rest.shape)
    high = np.broadcast_to(largest, rest.shape)
    low = -high if least is None else np.broadcast_to(least, rest.shape)
    upper = None if covariance is None else _inverse_root(covariance)
    if upper is None:
        return np.clip(np.round(rest / steps), low, high) * steps
    rounded = np.empty_like(rest)
    size = rest.shape[2]
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        errors = np.empty((*rest.shape[:2], end - start))
        for j in range(start, end):
            levels = np.clip(np.round(rest[:, :, j] / steps[:, :, j]), low[:, :, j], high[:, :, j])
            rounded[:, :, j] = np.where(zero[:, :, j], 0.0, levels * steps[:, :, j])
            errors[:, :, j - start] = (rest[:, :, j] - rounded[:, :, j]) / upper[:, None, j, j]
            rest[:, :, j + 1 : end] -= errors[:, :, j - start, None] * upper[:, None, j, j + 1 : end]
        rest[:, :, end:] -= errors @ upper[:, start:end, end:]
    assert covariance is not None
    for group, output in np.argwhere(zero.any(2) & ((~zero).sum(2) <= _APART) & ~zero.all(2)):
        left = ~zero[group, output]
        row, step, top, bottom = (array[group, output, left][None, None] for array in (weights, steps, high, low))
        among = covariance[group][np.ix_(left, left)]
        rounded[group, output, left] = round_rows(row, step, among[None], top, bottom)
    return rounded


def _inverse_root(covariance: NDArray[Any]) -> NDArray[np.float64] | None:
    """Return U, upper triangular, with U^T U the inverse of the damped covariance; None where there is none."""
    size = covariance.shape[1]
    variances = np.einsum("gii->gi", covariance).mean(1)
    damping = np.where(variances > 0, _DAMPING * variances, 1.0)
    try:
        inverse = np.linalg.inv(covariance + damping[:, None, None] * np.eye(size))
        root = np.linalg.cholesky((inverse + inverse.swapaxes(1, 2)) / 2)
    except np.linalg.LinAlgError:
        return None
    return root.swapaxes(1, 2).astype(np.float64)
