"""Groups of layers that lose channels together, and which of them may."""

import difflib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from edgekd.errors import EdgekdError, InputError
from edgekd.models.network import example_inputs
from edgekd.models.signature import Signature
from edgekd.stages.prune.structure import WEIGHTED, Structure, structure_of, tied_layers

Axis = Literal["hidden", "heads", "mlp"]
_NORMS = (nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Group:
    """One prunable group: the layer that names it, its channels, and every layer that loses channels with it.

    `axis` is the width of a transformer that it is: hidden, heads or mlp; None elsewhere. `parts` counts equal parts that
    lose as many channels each: the heads of an attention, the groups of a convolution.
    """

    root: str
    channels: int
    members: tuple[str, ...]
    axis: Axis | None = None
    parts: int = 1

    def fits(self, granularity: int) -> bool:
        """Return whether the group can lose channels in multiples of this."""
        return self.channels // self.parts > granularity


def prunable_groups(
    module: nn.Module, signature: Signature, keep: Sequence[str] = (), axes: Sequence[Axis] = ()
) -> list[Group]:
    """Return the groups of layers that can lose channels together.

    Raises:
        InputError: the network cannot be traced, a name in `keep` is no module, or it has no such axis.
    """
    structure = structure_of(module, signature)
    graph = graph_of(module, signature)
    names = {layer: name for name, layer in module.named_modules()}
    ignored = left_alone(graph, module, structure, keep, axes)
    return [_named(group, names, structure) for group in _groups(graph, ignored)]


def graph_of(module: nn.Module, signature: Signature) -> Any:
    """Return Torch-Pruning's dependency graph.

    Raises:
        InputError: the network cannot be traced.
    """
    import torch_pruning as tp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return tp.DependencyGraph().build_dependency(module, tuple(example_inputs(signature).values()))
        except EdgekdError:
            raise
        except Exception as error:  # whatever the tracing of a strange network raises
            raise InputError(
                f"cannot trace the network for pruning: {error}; distill and quantize still work"
            ) from error


def left_alone(
    graph: Any, module: nn.Module, structure: Structure, keep: Sequence[str], axes: Sequence[Axis]
) -> list[nn.Module]:
    """Return the layers whose outputs keep their channels.

    Those are the output layers, those of `keep`, all that would change a parameter that another layer holds too, and what
    lies on other axes than the wanted ones.

    Raises:
        InputError: a name in `keep` is no module, or the network has no such axis.
    """
    check_names(module, keep)
    modules = dict(module.named_modules())
    kept: Iterator[nn.Module] = (layer for name in keep for layer in modules[name].modules())
    ignored = [*structure.outputs, *structure.fused, *kept]
    found: set[Axis | None] = set()
    for group in _groups(graph, ignored):
        axis = _axis(group, structure)
        found.add(axis)
        if any(dep.target.module in structure.tied for dep, _ in group) or (axes and axis not in axes):
            ignored += [layer for layer in _narrowed(group) if layer not in ignored]
    missing = [axis for axis in axes if axis not in found]
    if missing:
        there = ", ".join(sorted(axis for axis in found if axis)) or "no transformer's"
        raise InputError(
            f"axes: nothing of this network is {' or '.join(missing)} that may be cut; it has {there} axes"
        )
    return ignored


def check_names(module: nn.Module, keep: Sequence[str]) -> None:
    """Check that every name is a module.

    Raises:
        InputError: one is not; the nearest name is shown.
    """
    names = [name for name, _ in module.named_modules()]
    unknown = [name for name in keep if name not in names]
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], names, n=1)
        hint = f"nearest: {nearest[0]}" if nearest else "`edgekd inspect` lists them"
        raise InputError(f"keep: the network has no module {', '.join(unknown)}; {hint}")


def tied_names(module: nn.Module) -> list[str]:
    """Return the names of the layers that hold one and the same parameter."""
    tied = tied_layers(module)
    return [name for name, layer in module.named_modules() if layer in tied]


def _groups(graph: Any, ignored: Sequence[nn.Module]) -> list[Any]:
    return list(graph.get_all_groups(ignored_layers=list(ignored), root_module_types=list(WEIGHTED)))


def _named(group: Any, names: dict[nn.Module, str], structure: Structure) -> Group:
    members = dict.fromkeys(names[dep.target.module] for dep, _ in group if dep.target.module in names)
    parts = [structure.heads.get(layer, getattr(layer, "groups", 1)) for layer in _narrowed(group)]
    channels = len(group[0].idxs)
    shared = max((count for count in parts if count < channels), default=1)  # a depthwise layer has no parts
    return Group(names[group[0].dep.target.module], channels, tuple(members), _axis(group, structure), shared)


def _narrowed(group: Any) -> list[nn.Module]:
    """Return the weighted layers of a group whose outputs lose channels."""
    import torch_pruning as tp

    inwards = (tp.prune_conv_in_channels, tp.prune_linear_in_channels)
    return [
        dep.target.module for dep, _ in group if isinstance(dep.target.module, WEIGHTED) and dep.handler not in inwards
    ]


def _axis(group: Any, structure: Structure) -> Axis | None:
    """Return which width of a transformer a group is, None where the network has no attention."""
    if not structure.heads and not structure.fused:
        return None
    if any(layer in structure.heads for layer in _narrowed(group)):
        return "heads"
    if any(isinstance(dep.target.module, _NORMS) for dep, _ in group):
        return "hidden"
    return "mlp" if isinstance(group[0].dep.target.module, nn.Linear) else None
