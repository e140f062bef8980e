"""Integer weights in a graph: what rounds them becomes their levels, with the operations that make weights of them again."""

import torch
from torch import fx

from edgekd.models.exported_graph import value_of
from edgekd.models.onnx_graph import LEVELS
from edgekd.models.pt2e import FakeQuantizeBase  # noqa: F401  # loads the operations
from edgekd.models.weight_rounder import WeightRounder
from edgekd.models.weight_rounding import HIGHEST, from_groups


@torch.no_grad()
def make_weights_explicit(graph: fx.GraphModule) -> None:
    """Replace the weight rounders of a graph by levels, scales and what multiplies them, in place.

    One scale an output channel: the levels have the weight's shape. More: they are a matrix, a group of weights a row, that is
    scaled by rows and then given the weight's shape.
    """
    dequantize = torch.ops.quantized_decomposed.dequantize_per_channel.default
    for number, node in enumerate(graph.graph.find_nodes(op="call_module")):
        rounder = graph.get_submodule(str(node.target))
        if not isinstance(rounder, WeightRounder):
            continue
        groups, scales = rounder.levels(value_of(graph, node.args[0])), rounder.scale.detach().flatten()
        whole, axis = groups.shape[1] == 1, rounder.axis
        levels = from_groups(groups, rounder.shape, axis) if whole else groups.flatten(0, 1)
        buffers = {
            f"{rounder.weights}{LEVELS}{number}": levels.to(torch.int8).contiguous(),
            f"scales_{number}": scales,
            f"zeros_{number}": torch.zeros_like(scales, dtype=torch.int64),
        }
        highest = HIGHEST[rounder.weights]
        with graph.graph.inserting_before(node):
            made = []
            for name, value in buffers.items():
                graph.register_buffer(name, value)
                made.append(graph.graph.get_attr(name))
            found = graph.graph.call_function(dequantize, (*made, axis if whole else 0, -highest, highest, torch.int8))
            if not whole:
                found = _reshaped(graph, found, rounder)
        found.meta |= {key: value for key, value in node.meta.items() if key == "val"}
        node.replace_all_uses_with(found)
        graph.graph.erase_node(node)
        graph.delete_submodule(str(node.target))
    graph.recompile()


def _reshaped(graph: fx.GraphModule, rows: fx.Node, rounder: WeightRounder) -> fx.Node:
    """Give a matrix of groups the shape of the weight, without what was filled up."""
    call, aten, shape, axis = graph.graph.call_function, torch.ops.aten, rounder.shape, rounder.axis
    moved = [shape[axis], *shape[:axis], *shape[axis + 1 :]]
    outputs, inputs = moved[0], torch.Size(moved[1:]).numel()
    found = call(aten.reshape.default, (rows, [outputs, -1]))
    if inputs % rounder.block:
        found = call(aten.slice.Tensor, (found, 1, 0, inputs))
    found = call(aten.reshape.default, (found, moved))
    if axis:
        found = call(aten.permute.default, (found, [*range(1, axis + 1), 0, *range(axis + 1, len(shape))]))
    return found
