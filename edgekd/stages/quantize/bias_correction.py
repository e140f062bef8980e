"""Bias correction: rounding weights moves the mean of a layer's output; the bias takes that back.

For y = W x + b and quantized weights Q(W), E[y] moves by (Q(W) - W) E[x]; the bias becomes b - (Q(W) - W) E[x].
Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, section 4.2; E[x] is
measured on the calibration part here.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekd.stages.quantize.calibration import Histogram


def round_weights(weights: NDArray[Any], *, per_channel: bool, axis: int = 0, largest: int = 127) -> NDArray[Any]:
    """Return the weights that symmetric quantization with -largest..largest leaves, in float."""
    axes = tuple(position for position in range(weights.ndim) if position != axis) if per_channel else None
    scale = np.abs(weights).max(axes, keepdims=True) / largest
    scale = np.where(scale == 0, 1, scale)
    return np.clip(np.round(weights / scale), -largest, largest) * scale


def correct_biases(model: onnx.ModelProto, observed: dict[str, Histogram], *, per_channel: bool) -> int:
    """Correct the biases of all Conv and Gemm nodes that have one, in place; return how many were."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    uses: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    corrected = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
            continue
        source, weight_name, bias_name = node.input[:3]
        means = observed[source].channel_means if source in observed else None
        if means is None or weight_name not in weights or bias_name not in weights or uses[bias_name] > 1:
            continue
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        weight = numpy_helper.to_array(weights[weight_name])
        if node.op_type == "Gemm" and not attributes.get("transB", 0):
            weight = weight.T
        shift = _shift(weight, means, attributes.get("group", 1), per_channel=per_channel)
        bias = numpy_helper.to_array(weights[bias_name])
        if shift is None or shift.shape != bias.shape:
            continue
        weights[bias_name].CopyFrom(numpy_helper.from_array((bias - shift).astype(bias.dtype), bias_name))
        corrected += 1
    return corrected


def _shift(weight: NDArray[Any], means: NDArray[Any], groups: int, *, per_channel: bool) -> NDArray[Any] | None:
    """Return (Q(W) - W) E[x] for each output channel, or None where the shapes do not fit."""
    if weight.ndim < 2 or weight.shape[1] * groups != len(means):
        return None
    difference = round_weights(weight, per_channel=per_channel) - weight
    difference = difference.reshape(weight.shape[0], weight.shape[1], -1).sum(2)
    expected = means.reshape(groups, -1)
    rows = difference.reshape(groups, -1, weight.shape[1])
    return np.einsum("goi,gi->go", rows, expected).reshape(-1)
