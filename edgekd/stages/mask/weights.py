"""Which weights of a network a mask may set to zero."""

from dataclasses import dataclass

from torch import nn

from edgekd.errors import InputError
from edgekd.stages.prune.groups import check_names
from edgekd.stages.prune.structure import WEIGHTED


@dataclass(frozen=True)
class Weight:
    """A weight by the name of its parameter; `axis` counts the inputs of its layer."""

    name: str
    axis: int
    shape: tuple[int, ...]

    @property
    def inputs(self) -> int:
        """Return how many inputs the layer, or one group of its channels, has."""
        return self.shape[self.axis]


def maskable(module: nn.Module, keep: tuple[str, ...]) -> list[Weight]:
    """Return the weights of convolutions, linear and recurrent layers; one that several layers share is named once.

    Raises:
        InputError: a name in `keep` is no module, or there are no such weights.
    """
    check_names(module, keep)
    kept = {id(parameter) for name in keep for parameter in module.get_submodule(name).parameters()}
    found: list[Weight] = []
    for path, layer in module.named_modules():
        axis = 0 if isinstance(layer, nn.modules.conv._ConvTransposeNd) else 1
        for name, parameter in layer.named_parameters(path, recurse=False):
            if _multiplies(layer, name.rpartition(".")[2]) and id(parameter) not in kept:
                kept.add(id(parameter))
                found.append(Weight(name, axis, tuple(parameter.shape)))
    if not found:
        raise InputError(
            "mask: there is no convolution, linear or recurrent layer whose weights could be set to zero"
            + (f" beside {', '.join(keep)}" if keep else "")
        )
    return found


def fitting(weights: list[Weight], group: tuple[int, int] | None) -> tuple[list[Weight], list[Weight]]:
    """Return the weights that a pattern N:M can be laid on, and those whose inputs are no multiple of M.

    Raises:
        InputError: it fits none.
    """
    if group is None:
        return weights, []
    fit = [one for one in weights if one.inputs % group[1] == 0]
    if not fit:
        raise InputError(
            f"mask: pattern {group[0]}:{group[1]} needs layers whose inputs are a multiple of {group[1]}, and none has them"
        )
    return fit, [one for one in weights if one not in fit]


def _multiplies(layer: nn.Module, name: str) -> bool:
    if isinstance(layer, nn.RNNBase):
        return name.startswith("weight_")
    return isinstance(layer, WEIGHTED) and name == "weight"
