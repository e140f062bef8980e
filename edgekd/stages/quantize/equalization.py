"""Cross-layer equalization: the channels between two layers are scaled so that both layers' weights use their range well.

With f(s x) = s f(x) for s > 0, as ReLU has it, a channel i between two layers may be scaled without changing what they
compute:

    W1_i <- W1_i / s_i,   b1_i <- b1_i / s_i,   W2_i <- W2_i s_i,   s_i = sqrt(r1_i r2_i) / r2_i,

r1_i the largest weight that makes channel i, r2_i the largest that takes it. Both ranges are then sqrt(r1_i r2_i). In a
row of layers the pairs are gone through until no scale changes.
Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, eq. 7 to 11.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekd.stages.quantize.layers import Layer, array_of, find_layers

HOMOGENEOUS = ("Relu", "LeakyRelu")  # Clip, as ReLU6, is not
_SWEEPS = 20
_STILL = 1e-3  # scales that change by less are at rest
_MOST = 100.0  # of a scale, or one by it: a channel that is nearly dead takes no part (edgekd variant)


@dataclass(frozen=True)
class Equalized:
    """A graph with its pairs of layers equalized; `spread` is the largest scale of a channel by the median one's of its pair."""

    graph: onnx.ModelProto
    pairs: int
    spread: float


def equalize(model: onnx.ModelProto) -> Equalized:
    """Return the graph with all pairs of layers equalized; it computes what it did."""
    pairs = list(_pairs(model))
    arrays = {name: array_of(model, name).astype(np.float64) for pair in pairs for name in _names(*pair)}
    scales = {one.node: np.ones(_outputs(one)) for one, _ in pairs}
    for _ in range(_SWEEPS):
        moved = 0.0
        for first, second in pairs:
            before = scales[first.node]
            rows = np.abs(first.rows(arrays[first.weight])).max(2).reshape(-1)
            columns = _by_channel(second, np.abs(arrays[second.weight]))
            alive = (rows > 0) & (columns > 0)
            wanted = np.sqrt(np.divide(rows, columns, out=np.ones_like(rows), where=alive))
            total = np.clip(before * wanted, 1 / _MOST, _MOST)
            _scale(first, second, total / before, arrays)
            scales[first.node] = total
            moved = max(moved, float(np.abs(total / before - 1).max()))
        if moved < _STILL:
            break
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name].astype(np.float32), tensor.name))
    spreads = [float(scale.max() / np.median(scale)) for scale in scales.values()]
    return Equalized(changed, len(pairs), max(spreads, default=1.0))


def _pairs(model: onnx.ModelProto) -> Iterator[tuple[Layer, Layer]]:
    """Yield the layers that follow one another with nothing, or a homogeneous activation, between them."""
    layers = {layer.node: layer for layer in find_layers(model)}
    nodes = {node.name: node for node in model.graph.node}
    users: dict[str, list[onnx.NodeProto | None]] = {value.name: [None] for value in model.graph.output}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for first in layers.values():
        maker = nodes[first.node]
        if len(maker.input) > 2 and maker.input[2] and first.bias is None:
            continue  # a bias that others use too
        taker = _only_user(maker, users)
        while taker is not None and taker.op_type in HOMOGENEOUS:
            taker = _only_user(taker, users)
        second = layers.get(taker.name) if taker is not None else None
        if second is not None and _outputs(first) == _inputs(second):
            yield first, second


def _only_user(node: onnx.NodeProto, users: dict[str, list[onnx.NodeProto | None]]) -> onnx.NodeProto | None:
    following = users.get(node.output[0], [])
    return following[0] if len(following) == 1 else None


def _names(first: Layer, second: Layer) -> list[str]:
    return [first.weight, second.weight, *([first.bias] if first.bias else [])]


def _outputs(layer: Layer) -> int:
    return layer.shape[layer.axis]


def _inputs(layer: Layer) -> int:
    return layer.shape[1 - layer.axis] * layer.groups


def _by_channel(layer: Layer, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest weight that takes each input channel, (inputs,)."""
    found: NDArray[np.float64] = _apart(layer, weights).max((1, 3)).reshape(-1)
    return found


def _apart(layer: Layer, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights as (groups, outputs of a group, inputs of a group, kernel)."""
    ordered = weights if layer.axis == 0 else weights.T
    outputs = _outputs(layer) // layer.groups
    return ordered.reshape(layer.groups, outputs, _inputs(layer) // layer.groups, -1)


def _scale(first: Layer, second: Layer, scales: NDArray[np.float64], arrays: dict[str, NDArray[np.float64]]) -> None:
    """Divide what makes the channels between two layers by `scales` (channels,), and multiply what takes them."""
    made = scales.reshape(first.groups, -1, 1)
    arrays[first.weight] = _shaped(first, first.rows(arrays[first.weight]) / made)
    if first.bias is not None:
        bias = arrays[first.bias]
        arrays[first.bias] = bias / scales.reshape(bias.shape)
    taken = scales.reshape(second.groups, 1, -1, 1)
    arrays[second.weight] = _shaped(second, _apart(second, arrays[second.weight]) * taken)


def _shaped(layer: Layer, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = rows.reshape(_outputs(layer), -1)
    return (ordered if layer.axis == 0 else ordered.T).reshape(layer.shape)
