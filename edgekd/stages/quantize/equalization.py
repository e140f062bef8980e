"""Equalization: channels of one activation tensor get similar ranges, so that its single 8-bit scale suits them all.

Where a convolution makes a tensor x and other convolutions use it, its channel c may be multiplied by s_c > 0 and the
weights that use it divided by s_c: the network computes the same, also through ReLU, sums and poolings. ReLU6 allows it
as long as no value passes its limit. Rounding then adds noise of two kinds to what the users of x compute,

    N(s) = span(s x)² / 255² / 12 * sum_oc (W_oc / s_c)²                       from x, one step for all channels
         + sum_o max_c (|W_oc| / s_c)² / 127² / 12 * sum_c s_c² E[x_c²]        from W, one step for each output o

with span the distance between the ends of the range. Of the family s_c = (max_c r_c / r_c)^a, where r_c is the largest
|x_c| on the calibration part, the exponent a with the least N(s) is taken; a = 0 leaves x as it is.

Sources: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019 (exchanging scales
between layers, for per-tensor weights); Xiao et al., SmoothQuant, 2023 (the exponent, for activations).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekd.stages.quantize.observation import ChannelStatistics

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
LARGEST = 64.0  # factor; a channel that hardly ever speaks may speak up on other data
_CARRY = ("Relu", "LeakyRelu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Dropout", "Identity")


@dataclass
class _Group:
    """Tensors that must share one factor a channel, and the weights at their ends."""

    tensors: list[str] = field(default_factory=list)
    makers: list[onnx.NodeProto] = field(default_factory=list)
    users: list[onnx.NodeProto] = field(default_factory=list)
    ceiling: float = np.inf  # the lowest limit of a Clip in the group
    fixed: bool = False  # something else reads or writes one of the tensors


def equalize(
    model: onnx.ModelProto, statistics: dict[str, ChannelStatistics], exponents: tuple[float, ...] = EXPONENTS
) -> dict[str, NDArray[np.float64]]:
    """Equalize a float graph in place, for weights with one scale an output channel.

    Returns:
        The factor of every channel, for the tensors that were changed.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    changed: dict[str, NDArray[np.float64]] = {}
    for group in _groups(model, weights):
        known = [statistics[name] for name in group.tensors if name in statistics]
        if group.fixed or not group.makers or not group.users or not known:
            continue
        factors = _best_factors(group, known, weights, exponents)
        if factors is None:
            continue
        for node in group.makers:
            _scale_outputs(node, weights, factors)
        for node in group.users:
            _scale_inputs(node, weights, 1 / factors)
        changed |= dict.fromkeys(group.tensors, factors)
    return changed


def _best_factors(
    group: _Group, known: list[ChannelStatistics], weights: dict[str, onnx.TensorProto], exponents: tuple[float, ...]
) -> NDArray[np.float64] | None:
    """Return the factors with the least predicted noise, None where that is no change."""
    largest = np.max([one.largest / max(one.largest.max(), 1e-12) for one in known], axis=0)
    room = np.min([group.ceiling / np.maximum(one.largest, 1e-12) for one in known], axis=0)
    best, least = None, np.inf
    for exponent in exponents:
        factors = np.where(largest > 0, np.maximum(largest, 1e-12) ** -exponent, 1.0)
        factors = np.maximum(np.minimum(np.minimum(factors, LARGEST), room), 1.0)
        noise = 0.0
        spans = sum(one.scaled(factors).span ** 2 for one in known)
        for node in group.users:
            used = _by_input(node, weights)  # (outputs, inputs, the rest), 0 where there is no connection
            scaled = used / factors[None, :, None]
            noise += float(spans) / 255**2 * float((scaled**2).sum())
            steps = np.abs(scaled).max((1, 2)) / 127
            power = known[0].scaled(factors).mean_square
            connected = np.count_nonzero(used, axis=2)
            noise += float((steps**2 * (connected * power).sum(1)).sum())
        if noise < least * 0.999:
            best, least = (factors if (factors != 1).any() else None), noise
    return best


def _groups(model: onnx.ModelProto, weights: dict[str, onnx.TensorProto]) -> Iterator[_Group]:
    """Yield the groups of tensors that operators which keep channels apart tie together."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    ends: list[tuple[str, onnx.NodeProto, bool]] = []
    fixed = [value.name for value in (*model.graph.input, *model.graph.output)]
    limits: list[tuple[str, float]] = []
    uses: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    shapes = _ranks(model)
    for node in model.graph.node:
        tensors = [name for name in (*node.input, *node.output) if name and name not in weights]
        own = [name for name in node.input[1:] if name]
        if node.op_type in ("Conv", "Gemm") and all(name in weights and uses[name] == 1 for name in own):
            if node.op_type == "Conv" or _is_plain_gemm(node):
                ends += [(node.input[0], node, False), (node.output[0], node, True)]
                continue
        limit = _ceiling(node, weights)
        carries = node.op_type in _CARRY and limit is not None
        pads = node.op_type == "Pad" and _pads_zeros(node, weights)
        flattens = node.op_type in ("Flatten", "Reshape") and _keeps_channels(node, shapes)
        if carries or pads or flattens or (node.op_type == "Add" and _same_shape(node, shapes, weights)):
            for name in tensors[1:]:
                parent[find(name)] = find(tensors[0])
            if limit is not None:
                limits.append((node.output[0], limit))
        else:
            fixed += tensors
    groups: dict[str, _Group] = {}
    for name in dict.fromkeys(name for node in model.graph.node for name in (*node.input, *node.output)):
        if name and name not in weights:
            groups.setdefault(find(name), _Group()).tensors.append(name)
    for name, node, makes in ends:
        group = groups[find(name)]
        (group.makers if makes else group.users).append(node)
    for name, limit in limits:
        group = groups[find(name)]
        group.ceiling = min(group.ceiling, limit)
    for name in fixed:
        if name in parent or find(name) in groups:
            groups.setdefault(find(name), _Group()).fixed = True
    yield from groups.values()


def _ranks(model: onnx.ModelProto) -> dict[str, list[Any]]:
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    return {
        value.name: [axis.dim_value or axis.dim_param for axis in value.type.tensor_type.shape.dim] for value in values
    }


def _ceiling(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> float | None:
    """Return up to which value a node leaves a factor through: infinity but for Clip; None where it never does."""
    if node.op_type != "Clip":
        return np.inf
    ends = [numpy_helper.to_array(weights[name]) if name in weights else None for name in node.input[1:] if name]
    if any(end is None for end in ends) or not ends or float(ends[0]) != 0:  # type: ignore[arg-type]
        return None
    return float(ends[1]) if len(ends) > 1 else np.inf  # type: ignore[arg-type]


def _pads_zeros(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    mode = next((attribute.s for attribute in node.attribute if attribute.name == "mode"), b"constant")
    values = [weights[name] for name in node.input[2:3] if name in weights]
    return mode == b"constant" and all(not numpy_helper.to_array(value).any() for value in values)


def _keeps_channels(node: onnx.NodeProto, shapes: dict[str, list[Any]]) -> bool:
    """Return whether (N, C, 1, 1) becomes (N, C)."""
    before, after = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
    return len(before) > 2 and before[2:] == [1] * (len(before) - 2) and len(after) == 2 and after[1] == before[1]


def _same_shape(node: onnx.NodeProto, shapes: dict[str, list[Any]], weights: dict[str, onnx.TensorProto]) -> bool:
    one, other = (shapes.get(name) for name in node.input)
    return one is not None and one == other and not any(name in weights for name in node.input)


def _is_plain_gemm(node: onnx.NodeProto) -> bool:
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return not attributes.get("transA", 0) and attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)


def _by_input(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> NDArray[Any]:
    """Return a node's weights as (outputs, all inputs, kernel); for grouped convolutions with zeros between groups."""
    weight = numpy_helper.to_array(weights[node.input[1]]).astype(np.float64)
    if node.op_type == "Gemm":
        return (weight if _attribute(node, "transB", 0) else weight.T)[:, :, None]
    outputs, inputs = weight.shape[:2]
    groups = _attribute(node, "group", 1)
    flat = weight.reshape(groups, outputs // groups, inputs, -1)
    if groups == 1:
        return flat[0]
    full = np.zeros((groups, outputs // groups, groups, inputs, flat.shape[-1]))
    full[np.arange(groups), :, np.arange(groups)] = flat
    return full.reshape(outputs, groups * inputs, -1)


def _scale_outputs(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto], factors: NDArray[Any]) -> None:
    transposed = node.op_type == "Gemm" and not _attribute(node, "transB", 0)
    _multiply(weights[node.input[1]], factors, 1 if transposed else 0)
    if len(node.input) > 2:
        _multiply(weights[node.input[2]], factors, 0)


def _scale_inputs(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto], factors: NDArray[Any]) -> None:
    tensor = weights[node.input[1]]
    if node.op_type == "Gemm":
        _multiply(tensor, factors, 1 if _attribute(node, "transB", 0) else 0)
        return
    groups = _attribute(node, "group", 1)
    weight = numpy_helper.to_array(tensor).astype(np.float64)
    per_output = np.repeat(factors.reshape(groups, -1), weight.shape[0] // groups, axis=0)
    scaled = weight * per_output.reshape(*per_output.shape, *[1] * (weight.ndim - 2))
    tensor.CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), tensor.name))


def _multiply(tensor: onnx.TensorProto, factors: NDArray[Any], axis: int) -> None:
    array = numpy_helper.to_array(tensor).astype(np.float64)
    shape = [1] * array.ndim
    shape[axis] = -1
    tensor.CopyFrom(numpy_helper.from_array((array * factors.reshape(shape)).astype(np.float32), tensor.name))
