"""Edits of a network that JSON can hold, so that a compressed network is its base, its edits and its weights."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from edgekd.models.network import example_inputs
from edgekd.models.signature import Signature

Edit = dict[str, Any]


def prune_edit(history: Sequence[Sequence[Any]]) -> Edit:
    """Return the edit that removes the channels of a Torch-Pruning history: (module, out channels?, indices)."""
    return {
        "kind": "prune",
        "history": [[name, bool(out), [int(index) for index in indices]] for name, out, indices in history],
    }


def apply_edits(module: nn.Module, edits: Sequence[Edit], signature: Signature) -> nn.Module:
    """Apply edits in order, in place, and return the network. Weights are whatever is left; load them afterwards."""
    for edit in edits:
        import torch_pruning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = torch_pruning.DependencyGraph().build_dependency(
                module, example_inputs=tuple(example_inputs(signature).values())
            )
        graph.load_pruning_history(edit["history"])
    return module
