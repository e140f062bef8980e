"""Batch norms folded into the layers before them."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from edgekd.models.signature import Signature

KIND = "fold-batch-norm"


def fold_edit(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the edit that folds batch norms into layers: (layer, batch norm) by path."""
    return {"kind": KIND, "pairs": [list(pair) for pair in pairs]}


def fold_batch_norms(module: nn.Module, edit: dict[str, Any], signature: Signature) -> nn.Module:
    """Fold the batch norms of an edit, in place, and return the network."""
    for layer_name, norm_name in edit["pairs"]:
        layer, norm = module.get_submodule(layer_name), module.get_submodule(norm_name)
        module.set_submodule(layer_name, folded(layer, norm))
        module.set_submodule(norm_name, nn.Identity())
    return module


def folded(layer: Any, norm: Any) -> nn.Module:
    """Return a layer that does what a convolution or linear layer and the batch norm behind it do, in eval mode.

    With s = gamma / sqrt(var + eps): W' = s W, b' = beta + s (b - mean). Computed in float64.
    """
    precision = layer.weight.dtype
    layer, norm = copy.deepcopy(layer).double().eval(), copy.deepcopy(norm).double().eval()
    if norm.weight is None:  # affine = False
        norm.weight, norm.bias = (nn.Parameter(full(norm.running_mean)) for full in (torch.ones_like, torch.zeros_like))
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(layer, norm).to(precision)
    return fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, nn.modules.conv._ConvTransposeNd)).to(precision)
