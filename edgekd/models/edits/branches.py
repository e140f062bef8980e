"""Branches that only training has: parallel ones merged into one convolution, others taken out."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekd.models.edits.batch_norms import folded
from edgekd.models.edits.layers import Pass, Zero
from edgekd.models.signature import Signature

MERGE, DROP = "merge-branches", "drop-branches"
Branch = tuple[
    str | None, str | None
]  # a convolution and the batch norm behind it, by path; one of them may be missing


def merge_edit(groups: Sequence[Sequence[Branch]]) -> dict[str, Any]:
    """Return the edit that merges groups of parallel branches; the first of a group has the largest kernel and stays."""
    return {"kind": MERGE, "groups": [[list(branch) for branch in group] for group in groups]}


def drop_edit(modules: Sequence[str], instead: Literal["zero", "identity"]) -> dict[str, Any]:
    """Return the edit that takes modules out by path: 0, or what goes in, comes out instead."""
    return {"kind": DROP, "modules": list(modules), "instead": instead}


@torch.no_grad()
def merge_branches(module: nn.Module, edit: dict[str, Any], signature: Signature) -> nn.Module:
    """Merge the branches of an edit, in place, and return the network.

    A sum of convolutions of one input is the convolution with the sum of their kernels, the smaller ones filled up with
    zeros; a batch norm alone is one with a 1x1 kernel. Source: Ding et al., RepVGG, arXiv 2101.03697, section 3.3.
    """
    for group in edit["groups"]:
        kept = module.get_submodule(group[0][0])
        assert isinstance(kept, nn.modules.conv._ConvNd)
        alone = [_alone(module, conv, norm, kept) for conv, norm in group]
        merged, *others = alone
        biases = [one.bias for one in alone if one.bias is not None]
        weight = merged.weight + sum(_filled(one.weight, merged.weight) for one in others)
        merged.weight = nn.Parameter(weight)
        merged.bias = nn.Parameter(sum(biases[1:], biases[0].clone())) if biases else None
        for number, (conv, norm) in enumerate(group):
            for name in (conv, norm):
                if name is not None:
                    module.set_submodule(name, nn.Identity())
            last = conv if norm is None else norm
            module.set_submodule(last if number else group[0][0], Zero() if number else merged)
    return module


def drop_modules(module: nn.Module, edit: dict[str, Any], signature: Signature) -> nn.Module:
    """Take the modules of an edit out, in place, and return the network."""
    for name in edit["modules"]:
        module.set_submodule(name, Zero() if edit["instead"] == "zero" else Pass())
    return module


def _alone(module: nn.Module, conv: str | None, norm: str | None, kept: Any) -> Any:
    """Return a branch as one convolution."""
    layer: Any = module.get_submodule(conv) if conv is not None else _identity(kept)
    return folded(layer, module.get_submodule(norm)) if norm is not None else layer


def _identity(kept: Any) -> nn.Module:
    """Return the 1x1 convolution that changes nothing, in the groups of another one."""
    identity = type(kept)(kept.in_channels, kept.out_channels, 1, groups=kept.groups, bias=False)
    nn.init.dirac_(identity.weight, kept.groups)
    return identity.to(kept.weight.device, kept.weight.dtype)


def _filled(weight: Tensor, larger: Tensor) -> Tensor:
    """Return a kernel filled up with zeros on all sides to the size of a larger one."""
    sides = [(big - small) // 2 for small, big in zip(weight.shape[2:], larger.shape[2:], strict=True)]
    return functional.pad(weight, [side for one in reversed(sides) for side in (one, one)])
