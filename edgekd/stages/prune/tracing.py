"""Torch-Pruning's dependency graph of a network."""

import warnings
from typing import Any

from torch import nn

from edgekd.errors import EdgekdError, InputError
from edgekd.models.network import example_inputs
from edgekd.models.signature import Signature
from edgekd.stages.prune.structure import WEIGHTED


def graph_of(module: nn.Module, signature: Signature) -> Any:
    """Return Torch-Pruning's dependency graph.

    Raises:
        InputError: the network cannot be traced.
    """
    import torch_pruning as tp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            graph = tp.DependencyGraph().build_dependency(module, tuple(example_inputs(signature).values()))
        except EdgekdError:
            raise
        except Exception as error:  # whatever the tracing of a strange network raises
            raise InputError(
                f"cannot trace the network for pruning: {error}; distill and quantize still work"
            ) from error
    in_order(graph)
    return graph


def whole_group(graph: Any, layer: nn.Module) -> Any:
    """Return the group of all output channels of a layer."""
    outwards = graph.get_pruner_of_module(layer).prune_out_channels
    return graph.get_pruning_group(layer, outwards, list(range(graph.get_out_channels(layer))))


def in_order(graph: Any) -> None:
    """Let groups begin with the layer whose channels forward takes apart, not with one that adds to a piece of them.

    Torch-Pruning begins a group with the first layer that it meets, and sees of the others the channels that go with its own.
    Of layers whose sum is a concatenation those before the concatenation begin: each piece may then be cut alone.
    """
    if not any(type(one).__name__ in ("_SplitOp", "_ConcatOp") for one in graph.module2node):
        return
    order = {}
    for layer in graph.module2node:
        group = whole_group(graph, layer) if isinstance(layer, WEIGHTED) else []
        split = any(type(dep.target.module).__name__ == "_SplitOp" for dep, _ in group)
        pieces = any(len(indices) < len(group[0].idxs) for _, indices in group)
        order[layer] = (0 if split else 2) if pieces else 1
    graph.module2node = dict(sorted(graph.module2node.items(), key=lambda item: order[item[0]]))
