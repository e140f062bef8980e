"""The weights of a graph that can be rounded alone, and the graph with them in integers."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekd.errors import InputError
from edgekd.models.onnx_graph import RECURRENT, refill
from edgekd.stages.export.onnx_writer import IR_VERSION
from edgekd.stages.quantize.layers import Layer, array_of, find_layers
from edgekd.stages.quantize.weight_only.blocks import Blocks


@dataclass(frozen=True)
class Weight:
    """A constant that one node multiplies by. `layer` is that node where its inputs can be observed."""

    node: str
    operator: str
    name: str
    shape: tuple[int, ...]
    layer: Layer | None

    @property
    def size(self) -> int:
        """Return how many weights there are."""
        return math.prod(self.shape)

    @property
    def inputs(self) -> int:
        """Return how many weights make one output."""
        return self.layer.fan_in if self.layer else self.shape[-1]

    @property
    def blocked(self) -> bool:
        """Return whether blocks of inputs lie on an axis of their own; a convolution's do not."""
        return self.operator != "Conv"

    def rows(self, array: NDArray[Any]) -> NDArray[np.float64]:
        """Return the weights as (groups, outputs, inputs)."""
        return self.layer.rows(array) if self.layer else array.astype(np.float64).reshape(1, -1, self.shape[-1])

    def in_place(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return (groups, outputs, anything) as the axes of the weights, `anything` in place of the inputs."""
        flat = rows.reshape(-1, rows.shape[2])
        if self.operator in RECURRENT:
            return flat.reshape(*self.shape[:-1], -1)
        return flat.T if self.layer and self.layer.axis else flat


def find_weights(model: onnx.ModelProto, operators: Collection[str], kept: Collection[str]) -> list[Weight]:
    """Return the float weights of these operators that nothing else uses, but those of the nodes that are kept.

    Raises:
        InputError: one holds NaN or infinite values.
    """
    found = [
        Weight(layer.node, layer.kind, layer.weight, layer.shape, layer)
        for layer in find_layers(model, [name for name in operators if name not in RECURRENT])
    ]
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        if node.op_type in RECURRENT and node.op_type in operators:
            found += [
                Weight(node.name, node.op_type, name, tuple(constants[name].dims), None)
                for name in node.input[1:3]
                if name in constants and uses[name] == 1
            ]
    found = [one for one in found if one.node not in kept and constants[one.name].data_type == TensorProto.FLOAT]
    for one in found:
        if not np.isfinite(array_of(model, one.name)).all():
            raise InputError(
                f"the weights {one.name} of {one.node} hold NaN or infinite values; train the network again"
            )
    return found


def with_integers(
    model: onnx.ModelProto, rounded: Sequence[tuple[Weight, Blocks]], bits: int, block: int
) -> onnx.ModelProto:
    """Return the graph with DequantizeLinear in front of these weights."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    replaced = {weight.name for weight, _ in rounded}
    kept = [tensor for tensor in changed.graph.initializer if tensor.name not in replaced]
    nodes = []
    for weight, blocks in rounded:
        blocked = weight.blocked and (block or weight.operator in RECURRENT)
        constants = {
            "levels": _integers(weight.in_place(blocks.levels).reshape(weight.shape), bits),
            "scale": numpy_helper.from_array(_shaped(weight, blocks.steps, bool(blocked))),
        }
        if blocks.zero_points is not None:
            constants["zero_point"] = _integers(_shaped(weight, blocks.zero_points, bool(blocked)), bits)
        for role, tensor in constants.items():
            tensor.name = f"{weight.name}/{role}"
        kept += constants.values()
        size = {"block_size": block or weight.shape[-1]} if blocked else {}
        nodes.append(
            helper.make_node(
                "DequantizeLinear",
                [tensor.name for tensor in constants.values()],
                [weight.name],
                f"{weight.name}/dequantize",
                axis=_axis(weight, bool(blocked)),
                **size,
            )
        )
    nodes += changed.graph.node
    refill(changed.graph.initializer, kept)
    refill(changed.graph.node, nodes)
    changed.ir_version = IR_VERSION
    del changed.metadata_props[:]
    del changed.graph.value_info[:]
    return changed


def _axis(weight: Weight, blocked: bool) -> int:
    """Return the axis of the inputs where they come in blocks, else that of the outputs."""
    if weight.operator in RECURRENT:
        return len(weight.shape) - 1
    return int((weight.operator == "Conv") == blocked)


def _shaped(weight: Weight, of_blocks: NDArray[Any], blocked: bool) -> NDArray[Any]:
    """Return what each block has in the order of the weights' axes; one value an output where there are no blocks."""
    return np.ascontiguousarray(weight.in_place(of_blocks) if blocked else of_blocks.reshape(-1))


def _integers(levels: NDArray[Any], bits: int) -> TensorProto:
    """Return signed integers as a tensor; two of 4 bits share a byte, the first in its lower half."""
    if bits == 8:
        return numpy_helper.from_array(np.ascontiguousarray(levels, np.int8))
    flat = np.append(levels.reshape(-1), np.zeros(levels.size % 2, np.int8)).astype(np.int8).view(np.uint8) & 0xF
    return helper.make_tensor("", TensorProto.INT4, levels.shape, (flat[::2] | flat[1::2] << 4).tobytes(), raw=True)
