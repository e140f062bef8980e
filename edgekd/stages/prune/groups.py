"""Groups of layers that lose channels together, and which of them may."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from edgekd.errors import InputError
from edgekd.models.signature import Signature
from edgekd.stages.prune.parts import followed, narrowed, parts_of, taken_apart
from edgekd.stages.prune.structure import ATTENTION, WEIGHTED, Structure, structure_of, tied_layers
from edgekd.stages.prune.tracing import graph_of
from edgekd.stages.prune.whole_heads import WholeHeads, whole_heads

Axis = Literal["depth", "hidden", "heads", "mlp"]
_NORMS = (nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Group:
    """One prunable group: the layer that names it, its channels, and every layer that loses channels with it.

    `axis` is the width of a transformer that it is: hidden, heads or mlp; None elsewhere. `parts` counts equal parts that
    lose as many channels each: the groups of a convolution, the pieces of a chunk, or heads where only features of each can go. `unit` channels go
    together: those of a head that goes as a whole.
    """

    root: str
    channels: int
    members: tuple[str, ...]
    axis: Axis | None = None
    parts: int = 1
    unit: int = 1

    def multiple(self, granularity: int) -> int:
        """Return what the channels of a part stay a multiple of."""
        return math.lcm(granularity, self.unit)

    def fits(self, granularity: int) -> bool:
        """Return whether the group can lose channels in multiples of this."""
        return self.channels // self.parts > self.multiple(granularity)


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
    ignored = left_alone(graph, module, signature, structure, keep, axes)
    whole = {module.get_submodule(one.query): one for one in whole_heads(module, signature, structure, graph)}
    return [_named(graph, group, names, structure, whole) for group in groups_of(graph, ignored)]


def left_alone(
    graph: Any,
    module: nn.Module,
    signature: Signature,
    structure: Structure,
    keep: Sequence[str],
    axes: Sequence[Axis],
) -> list[nn.Module]:
    """Return the layers whose outputs keep their channels.

    Those are the output layers, those of `keep`, all that would change a parameter that another layer holds too, those
    whose channels cannot be followed, and what lies on other axes than the wanted ones.

    Raises:
        InputError: a name in `keep` is no module, or the network has no such axis.
    """
    check_names(module, keep)
    modules = dict(module.named_modules())
    ignored = [*structure.outputs, *structure.fused, *(layer for name in keep for layer in modules[name].modules())]
    ignored += [layer for group in _lost(graph, module, signature, structure, ignored) for layer in narrowed(group)]
    found: set[Axis | None] = set()
    for group in groups_of(graph, ignored):
        axis = axis_of(group, structure)
        found.add(axis)
        if any(dep.target.module in structure.tied for dep, _ in group) or (axes and axis not in axes):
            ignored += [layer for layer in narrowed(group) if layer not in ignored]
    missing = [axis for axis in axes if axis not in found and axis != "depth"]  # blocks are no groups
    if missing:
        there = ", ".join(sorted(axis for axis in found if axis)) or "no transformer's"
        hint = "" if structure.heads or structure.fused else f" ({ATTENTION}; write it so, or leave axes out)"
        raise InputError(
            f"axes: nothing of this network is {' or '.join(missing)} that may be cut; it has {there} axes{hint}"
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


def lost_names(module: nn.Module, signature: Signature, keep: Sequence[str] = ()) -> list[str]:
    """Return the names of the layers that are left whole because forward does with their channels what cannot be followed."""
    structure, graph = structure_of(module, signature), graph_of(module, signature)
    ignored = [
        *structure.outputs,
        *structure.fused,
        *(layer for name in keep for layer in module.get_submodule(name).modules()),
    ]
    names = {layer: name for name, layer in module.named_modules()}
    groups = _lost(graph, module, signature, structure, ignored)
    return list(dict.fromkeys(names[layer] for group in groups for layer in narrowed(group)))


def _lost(
    graph: Any, module: nn.Module, signature: Signature, structure: Structure, ignored: Sequence[nn.Module]
) -> list[Any]:
    """Return the groups whose channels forward takes apart, or moves, in a way that the graph does not follow."""
    return [
        group
        for group in groups_of(graph, ignored)
        if parts_of(graph, group, structure.heads) is None
        or (
            taken_apart(group)
            and not any(layer in structure.heads for layer in narrowed(group))
            and not followed(module, signature, graph, group)
        )
    ]


def groups_of(graph: Any, ignored: Sequence[nn.Module]) -> list[Any]:
    """Return Torch-Pruning's groups, without those that would change an ignored layer."""
    return list(graph.get_all_groups(ignored_layers=list(ignored), root_module_types=list(WEIGHTED)))


def whole_of(group: Any, whole: Mapping[nn.Module, WholeHeads]) -> WholeHeads | None:
    """Return the attention whose heads go as a whole that a group is; `whole` has them by query layer."""
    return next((whole[layer] for layer in narrowed(group) if layer in whole), None)


def _named(
    graph: Any,
    group: Any,
    names: dict[nn.Module, str],
    structure: Structure,
    whole: Mapping[nn.Module, WholeHeads],
) -> Group:
    members = dict.fromkeys(names[dep.target.module] for dep, _ in group if dep.target.module in names)
    root, channels, axis = names[group[0].dep.target.module], len(group[0].idxs), axis_of(group, structure)
    heads = whole_of(group, whole)
    if heads is not None:
        return Group(root, channels, tuple(members), axis, unit=heads.features)
    return Group(root, channels, tuple(members), axis, parts_of(graph, group, structure.heads) or 1)


def axis_of(group: Any, structure: Structure) -> Axis | None:
    """Return which width of a transformer a group is, None where the network has no attention."""
    if not structure.heads and not structure.fused:
        return None
    if any(layer in structure.heads for layer in narrowed(group)):
        return "heads"
    if any(isinstance(dep.target.module, _NORMS) for dep, _ in group):
        return "hidden"
    return "mlp" if isinstance(group[0].dep.target.module, nn.Linear) else None
