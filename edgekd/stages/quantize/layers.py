"""Convolutions, Gemm and MatMul of an ONNX graph, seen as y = W x + b: their weights as rows, and the x that they meet."""

import itertools
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch.nn import functional


@dataclass(frozen=True)
class Layer:
    """A Conv, Gemm or MatMul with constant weights of its own. `bias` is the name of its bias, or None."""

    node: str
    source: str
    weight: str
    bias: str | None
    shape: tuple[int, ...]  # of the weights
    kind: str
    attributes: dict[str, Any]

    @property
    def groups(self) -> int:
        """Return the number of groups that share no inputs and outputs."""
        return int(self.attributes.get("group", 1))

    @property
    def axis(self) -> int:
        """Return the axis of the weights that counts the outputs."""
        return 0 if self.kind == "Conv" or self.attributes.get("transB", 0) else 1

    @property
    def fan_in(self) -> int:
        """Return how many values make one output."""
        return math.prod(self.shape[1:]) if self.axis == 0 else self.shape[0]

    def rows(self, weight: NDArray[Any]) -> NDArray[np.float64]:
        """Return weights as (groups, outputs, inputs)."""
        ordered = weight if self.axis == 0 else weight.T
        return ordered.astype(np.float64).reshape(self.groups, ordered.shape[0] // self.groups, -1)

    def weights_of(self, rows: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return rows in the shape of the weights."""
        ordered = rows.reshape(-1, rows.shape[2])
        return np.ascontiguousarray((ordered if self.axis == 0 else ordered.T).reshape(self.shape), np.float32)

    def inputs(self, values: torch.Tensor, positions: int, offset: int) -> torch.Tensor:
        """Return the x that make about `positions` outputs of each sample, as (groups, inputs, all of them).

        Positions lie on a grid whose place in the image `offset` moves.
        """
        if self.kind != "Conv":
            return values.flatten(0, -2).T[None]
        rank = len(self.shape) - 2
        pads = self.attributes.get("pads") or [0] * 2 * rank
        strides = self.attributes.get("strides") or [1] * rank
        dilations = self.attributes.get("dilations") or [1] * rank
        ends = [(pads[axis], pads[axis + rank]) for axis in reversed(range(rank))]
        padded = functional.pad(values, [int(size) for pair in ends for size in pair]) if any(pads) else values
        sizes = [
            (padded.shape[axis + 2] - (self.shape[axis + 2] - 1) * dilations[axis] - 1) // strides[axis] + 1
            for axis in range(rank)
        ]
        step = max(1, round((math.prod(sizes) / positions) ** (1 / rank)))
        first = [offset // step**axis % min(step, sizes[axis]) for axis in range(rank)]
        taps = [
            padded[
                (
                    slice(None),
                    slice(None),
                    *(
                        slice(
                            tap[axis] * dilations[axis] + first[axis] * strides[axis],
                            tap[axis] * dilations[axis] + (sizes[axis] - 1) * strides[axis] + 1,
                            strides[axis] * step,
                        )
                        for axis in range(rank)
                    ),
                )
            ]
            for tap in itertools.product(*(range(size) for size in self.shape[2:]))
        ]
        found = torch.stack(taps, 2).flatten(3)  # (samples, channels, kernel, positions)
        samples, channels, kernel, count = found.shape
        apart = found.reshape(samples, self.groups, channels // self.groups * kernel, count)
        return apart.permute(1, 2, 0, 3).reshape(self.groups, apart.shape[2], samples * count)


def find_layers(model: onnx.ModelProto, operators: Collection[str] = ("Conv", "Gemm", "MatMul")) -> list[Layer]:
    """Return the layers of a graph whose weights nothing else uses, in its order; of MatMul those with one matrix."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    found = []
    for node in model.graph.node:
        if node.op_type not in operators or uses[node.input[1]] > 1 or node.input[1] not in weights:
            continue
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)
        if not plain or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
            continue
        shape = tuple(weights[node.input[1]].dims)
        if node.op_type == "MatMul" and len(shape) != 2:
            continue
        layer = Layer(node.name, node.input[0], node.input[1], None, shape, node.op_type, attributes)
        bias = node.input[2] if len(node.input) > 2 else ""
        if bias in weights and uses[bias] == 1 and math.prod(weights[bias].dims) == shape[layer.axis]:
            layer = replace(layer, bias=bias)
        found.append(layer)
    return found


def array_of(model: onnx.ModelProto, name: str) -> NDArray[Any]:
    """Return an initializer's values."""
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))
