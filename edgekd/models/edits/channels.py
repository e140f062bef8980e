"""Channels taken out of a network along its dependency graph."""

import warnings
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from torch import nn

from edgekd.models.network import example_inputs
from edgekd.models.signature import Signature

KIND = "prune"


def prune_edit(history: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return the edit that removes the channels of a Torch-Pruning history: (module, out channels?, indices)."""
    return {
        "kind": KIND,
        "history": [[name, bool(out), [int(index) for index in indices]] for name, out, indices in history],
    }


def remove_channels(module: nn.Module, edit: dict[str, Any], signature: Signature) -> nn.Module:
    """Remove the channels of an edit, in place, and return the network."""
    import torch_pruning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(
            module, example_inputs=tuple(example_inputs(signature).values())
        )
    for cut in edit["history"]:
        graph.load_pruning_history([cut])
        renew_offsets(graph)
    return module


def renew_offsets(graph: Any) -> None:
    """Tell a dependency graph where splits cut what a cut has left: Torch-Pruning renews their sizes, not their offsets."""
    for operation in graph.module2node:
        if type(operation).__name__ == "_SplitOp" and operation.split_sizes is not None:
            operation.offsets = [0, *accumulate(operation.split_sizes)]
