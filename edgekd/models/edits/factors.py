"""Linear layers and 1x1 convolutions as two narrow ones; a pair of layers may share the first."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from edgekd.models.signature import Signature

KIND, JOINT = "low-rank", "joint-low-rank"


def factor_edit(ranks: Mapping[str, int]) -> dict[str, Any]:
    """Return the edit that makes two layers of each one of these paths, with so many values between them."""
    return {"kind": KIND, "ranks": dict(ranks)}


def joint_edit(ranks: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
    """Return the edit that makes two layers of each one of a pair, the first of which they share: (path, path, rank)."""
    return {"kind": JOINT, "pairs": [list(one) for one in ranks]}


def factor_layers(module: nn.Module, edit: dict[str, Any], signature: Signature) -> nn.Module:
    """Put Sequential(down, up) in place of the layers of an edit, in place, and return the network; weights are new ones."""
    for name, rank in edit["ranks"].items():
        layer = module.get_submodule(name)
        module.set_submodule(name, nn.Sequential(_down(layer, rank), _up(layer, rank)).train(layer.training))
    return module


def factor_pairs(module: nn.Module, edit: dict[str, Any], signature: Signature) -> nn.Module:
    """Put Sequential(down, up) in place of the layers of an edit's pairs, one `down` a pair, and return the network."""
    for first, second, rank in edit["pairs"]:
        down = _down(module.get_submodule(first), rank)
        for name in (first, second):
            layer = module.get_submodule(name)
            module.set_submodule(name, nn.Sequential(down, _up(layer, rank)).train(layer.training))
    return module


def _down(layer: Any, rank: int) -> nn.Module:
    """Return the layer from the inputs to `rank` values; a convolution's stride and padding are here."""
    where = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, rank, bias=False, **where)
    kind, sizes = type(layer), (layer.kernel_size, layer.stride, layer.padding)
    return kind(layer.in_channels, rank, *sizes, bias=False, padding_mode=layer.padding_mode, **where)


def _up(layer: Any, rank: int) -> nn.Module:
    """Return the layer from `rank` values to the outputs, with a bias that takes the mean of what is left out."""
    where = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Linear):
        return nn.Linear(rank, layer.out_features, **where)
    return type(layer)(rank, layer.out_channels, 1, **where)
