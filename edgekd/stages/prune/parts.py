"""Parts of a layer that lose channels together, and whether the dependency graph follows where the channels go.

```
a, b = conv(x).chunk(2, 1); a * sigmoid(b)      channel 3 of a goes with channel 3 of b: 2 parts
grouped convolution of 4 groups                 each group loses as many:                4 parts
```
Every part loses channels at the same places, so that a chunk of what is left still cuts where it did. A forward can do with
channels what the graph does not see (a shuffle, split sizes written as numbers); where channels are taken apart or moved it
is tried, on values, and a layer whose channels go another way is left whole.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.models.network import example_inputs, run_network
from edgekd.models.signature import Signature
from edgekd.stages.prune.structure import WEIGHTED
from edgekd.stages.prune.tracing import graph_of, whole_group

_MIXING = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)  # one channel more or less changes all of their outputs


def narrowed(group: Any) -> list[nn.Module]:
    """Return the weighted layers of a group whose outputs lose channels."""
    return list(_narrowed(group))


def parts_of(graph: Any, group: Any, heads: Mapping[nn.Module, int]) -> int | None:
    """Return how many equal parts of a whole group lose channels at the same places; None where its pieces are unlike.

    Args:
        graph: Torch-Pruning's.
        group: of all channels of its root.
        heads: features of which stay together, by layer.
    """
    channels, parts = len(group[0].idxs), 1
    for position, (dep, indices) in enumerate(group):
        roots, layer = group[position].root_idxs, dep.target.module
        outwards = graph.is_out_channel_pruning_fn(dep.handler)
        count = heads[layer] if outwards and layer in heads else _groups(graph, layer, outwards=outwards)
        pieces = 1
        if len(indices) < channels and None not in roots:
            pieces, rest = divmod(channels, len(indices))
            first = min(roots)
            if rest or first % len(indices) or sorted(roots) != list(range(first, first + len(indices))):
                return None
        parts = math.lcm(parts, pieces * count)
    return parts if parts < channels else 1


def taken_apart(group: Any) -> bool:
    """Return whether forward takes the channels of a group apart, or moves them."""
    import torch_pruning as tp

    kinds = tp.ops.OPTYPE
    return any(
        dep.target.type in (kinds.SPLIT, kinds.UNBIND)
        or (dep.target.type == kinds.RESHAPE and len(getattr(dep.target.grad_fn, "_saved_self_sym_sizes", ())) > 4)
        or len(indices) < len(group[0].idxs)
        for dep, indices in group
    )


def followed(module: nn.Module, signature: Signature, graph: Any, group: Any) -> bool:
    """Return whether the channels of a whole group go where the graph says, before a cut and after one.

    Tried with the channels at the first half of the places. Every weighted layer answers with what it answered before, those
    of the group with other values in these channels: they may change none but the channels that the graph names of the
    layers that read them. Then they are cut, in a copy, which has to run and to be made of as many parts.
    """
    parts = parts_of(graph, group, {})
    if parts is None:
        return False
    width, root = len(group[0].idxs) // parts, group[0].dep.target.module
    chosen = [place + part * width for part in range(parts) for place in range(width // 2)]
    some = graph.get_pruning_group(root, group[0].dep.handler, chosen)
    if not chosen or not _there(graph, some) or not _as_named(module, signature, some):
        return False
    name = next(name for name, layer in module.named_modules() if layer is root)
    without = copy.deepcopy(module).eval()
    try:
        graph_of(without, signature).get_pruning_group(
            without.get_submodule(name), group[0].dep.handler, chosen
        ).prune()
        after = graph_of(without, signature)
        run_network(without, example_inputs(signature))
    except Exception:  # whatever a forward raises that finds other widths than it was written for
        return False
    return parts_of(after, whole_group(after, without.get_submodule(name)), {}) == parts


def _narrowed(group: Any) -> dict[nn.Module, list[int]]:
    return {layer: indices for layer, indices, outwards in _weighted(group) if outwards}


def _weighted(group: Any) -> Iterable[tuple[nn.Module, list[int], bool]]:
    """Yield the weighted layers of a group, the channels, and whether those are outputs."""
    import torch_pruning as tp

    inwards = (tp.prune_conv_in_channels, tp.prune_linear_in_channels)
    for dep, indices in group:
        if isinstance(dep.target.module, WEIGHTED):
            yield dep.target.module, indices, dep.handler not in inwards


def _groups(graph: Any, layer: Any, *, outwards: bool) -> int:
    """Return the groups of a convolution or of a norm; those of a depthwise layer are its channels, and none."""
    if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.out_channels:
        return 1
    pruner = graph.get_pruner_of_module(layer)
    return int(pruner.get_out_channel_groups(layer) if outwards else pruner.get_in_channel_groups(layer))


def _there(graph: Any, group: Any) -> bool:
    """Return whether every layer of a group has the channels that the group names of it."""
    return all(
        max(indices) < (graph.get_out_channels if outwards else graph.get_in_channels)(layer)
        for layer, indices, outwards in _weighted(group)
    )


def _as_named(module: nn.Module, signature: Signature, group: Any) -> bool:
    """Return whether other values in some channels of a group reach no channels but those that it names."""
    made: dict[nn.Module, list[Tensor]] = {}
    first: dict[nn.Module, list[Tensor]] = {}
    second: dict[nn.Module, list[Tensor]] = {}
    inputs = example_inputs(signature)
    changed = _narrowed(group)
    readers = {layer: indices for layer, indices, outwards in _weighted(group) if not outwards}

    def keep(layer: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        made.setdefault(layer, []).append(answer)
        first.setdefault(layer, []).append(given[0])

    def answer_again(layer: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> Tensor:
        calls = second.setdefault(layer, [])
        before = made[layer][len(calls)].clone()
        calls.append(given[0])
        if layer in changed:
            before.movedim(_axis(layer, before), 0)[changed[layer]] += 1 + before.abs().max()
        return before

    for hook in (keep, answer_again):
        hooks: list[Any] = []
        for layer in module.modules():
            if isinstance(layer, WEIGHTED):
                hooks.append(layer.register_forward_hook(hook))
            elif isinstance(layer, _MIXING):
                hooks.append(layer.register_forward_hook(lambda _layer, given, _answer: given[0]))
        try:
            with torch.no_grad():
                run_network(module, {name: tensor.clone() for name, tensor in inputs.items()})
        finally:
            for one in hooks:
                one.remove()
    for layer, named in readers.items():
        for one, other in zip(first[layer], second[layer], strict=True):
            axis = _axis(layer, one)
            differ = (one != other).movedim(axis, 0).flatten(1).any(1).nonzero().flatten().tolist()
            if not set(differ) <= set(named):
                return False
    return True


def _axis(layer: nn.Module, tensor: Tensor) -> int:
    return tensor.ndim - 1 if isinstance(layer, nn.Linear) else tensor.ndim - 1 - len(layer.kernel_size)  # type: ignore[arg-type]
