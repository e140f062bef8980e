"""Edits of a network that JSON can hold, so that a compressed network is its base, its edits and its weights.

A file here is one kind of edit: what makes it, and the function that applies it to a network with any weights.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from edgekd.models.edits import activations, batch_norms, branches, channels, factors, heads
from edgekd.models.edits.channels import prune_edit
from edgekd.models.signature import Signature

Edit = dict[str, Any]

APPLY: dict[str, Callable[[nn.Module, Edit, Signature], nn.Module]] = {
    channels.KIND: channels.remove_channels,
    batch_norms.KIND: batch_norms.fold_batch_norms,
    activations.KIND: activations.replace_activations,
    factors.KIND: factors.factor_layers,
    factors.JOINT: factors.factor_pairs,
    branches.MERGE: branches.merge_branches,
    branches.DROP: branches.drop_modules,
    heads.KIND: heads.set_head_counts,
}


def apply_edits(module: nn.Module, edits: Sequence[Edit], signature: Signature) -> nn.Module:
    """Apply edits in order, in place, and return the network. Weights are whatever is left; load them afterwards."""
    for edit in edits:
        module = APPLY[edit["kind"]](module, edit, signature)
    return module


__all__ = ["APPLY", "Edit", "apply_edits", "prune_edit"]
