"""Attention heads that can go as a whole: the network keeps their number in an attribute, and a trial shows that it obeys it."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.data import Part
from edgekd.evaluate import run_module
from edgekd.models.network import example_inputs, run_network
from edgekd.models.signature import Signature
from edgekd.stages.prune.structure import Attention, Structure, structure_of
from edgekd.stages.prune.tracing import graph_of

_ATTRIBUTES = ("heads", "num_heads", "n_heads", "nhead", "n_head", "num_attention_heads")
_ROUNDING = 1e-4  # of the largest output, in float32


@dataclass(frozen=True)
class WholeHeads:
    """An attention whose heads can go one by one.

    `query`, `key`, `value` and `reader`, the layer that is given the heads' outputs, are paths of layers; `attributes` are
    paths of integers that hold the number of heads; a head has `features`.
    """

    query: str
    key: str
    value: str
    reader: str
    heads: int
    features: int
    attributes: tuple[str, ...]

    def left(self, module: nn.Module) -> int:
        """Return how many heads are left, by the channels of the query layer."""
        return module.get_submodule(self.query).out_features // self.features  # type: ignore[operator,return-value]

    def recount(self, module: nn.Module) -> None:
        """Tell the network how many heads are left."""
        for path in self.attributes:
            owner, _, name = path.rpartition(".")
            setattr(module.get_submodule(owner), name, self.left(module))


def whole_heads(
    module: nn.Module, signature: Signature, structure: Structure | None = None, graph: Any = None
) -> list[WholeHeads]:
    """Return the attentions of a network whose heads can go as a whole; none where a trial on a copy fails.

    The trial removes the first head of each, and compares the outputs with those of the network in which that head gives
    zeros. `structure` and `graph` are the network's, where they are known already.
    """
    structure = structure if structure is not None else structure_of(module, signature)
    if not structure.attentions:
        return []
    graph = graph if graph is not None else graph_of(module, signature)
    names = {layer: name for name, layer in module.named_modules()}
    found = [one for attention in structure.attentions if (one := _found(attention, graph, module, names)) is not None]
    return found if found and _obeyed(module, signature, found) else []


def head_counts(module: nn.Module, found: Sequence[WholeHeads]) -> dict[str, int]:
    """Return how many heads are left by the paths of the attributes that hold it."""
    return {path: one.left(module) for one in found for path in one.attributes}


def head_norms(module: nn.Module, found: Sequence[WholeHeads], part: Part) -> dict[str, Tensor]:
    """Return what every head is worth, (heads,), by the path of the query layer.

    The mean over samples and positions of the L2 norm of a head's output. Source: Muralidharan et al., Compact Language
    Models via Pruning and Knowledge Distillation (Minitron), 2024, section 2.2.
    """
    sums: dict[str, Tensor] = {}

    def watch(one: WholeHeads) -> Any:
        def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            norms = inputs[0].float().unflatten(-1, (-1, one.features)).norm(dim=-1)
            total = norms.flatten(0, -2).mean(0) * len(inputs[0])
            sums[one.query] = sums.get(one.query, torch.zeros_like(total)) + total

        return module.get_submodule(one.reader).register_forward_pre_hook(note)

    hooks = [watch(one) for one in found]
    try:
        run_module(module, part)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / len(part) for name, total in sums.items()}


def by_head(values: Tensor, one: WholeHeads, norms: Mapping[str, Tensor]) -> Tensor:
    """Return the importance of features (heads x features,) as that of their heads: its norm where known, else the mean."""
    worth = norms[one.query] / norms[one.query].mean() if one.query in norms else values.view(-1, one.features).mean(1)
    return worth.repeat_interleave(one.features)


def _found(attention: Attention, graph: Any, module: nn.Module, names: dict[nn.Module, str]) -> WholeHeads | None:
    import torch_pruning as tp

    layers = (attention.query, attention.key, attention.value)
    widths = {getattr(layer, "out_features", 0) for layer in layers}
    width, heads = max(widths), attention.heads
    owner = _common_owner([names[layer] for layer in layers])
    kept = vars(module.get_submodule(owner))
    attributes = [name for name in _ATTRIBUTES if type(kept.get(name)) is int and kept[name] == heads]
    if heads < 2 or len(widths) != 1 or not width or width % heads or not attributes:
        return None
    group = graph.get_pruning_group(attention.query, tp.prune_linear_out_channels, list(range(width)))
    readers = [dep.target.module for dep, _ in group if dep.handler == tp.prune_linear_in_channels]
    if len(readers) != 1 or readers[0].in_features != width:
        return None
    paths = tuple(f"{owner}.{name}" if owner else name for name in attributes)
    query, key, value, reader = (names[layer] for layer in (*layers, readers[0]))
    return WholeHeads(query, key, value, reader, heads, width // heads, paths)


def _common_owner(names: Sequence[str]) -> str:
    """Return the path of the innermost module that holds all these layers."""
    parts = [name.split(".")[:-1] for name in names]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)


@torch.no_grad()
def _obeyed(module: nn.Module, signature: Signature, found: Sequence[WholeHeads]) -> bool:
    import torch_pruning as tp

    inputs = example_inputs(signature)
    without, silenced = copy.deepcopy(module).eval(), copy.deepcopy(module).eval()
    with torch.enable_grad():
        graph = graph_of(without, signature)
    for one in found:
        value: Any = silenced.get_submodule(one.value)
        for tensor in (value.weight, value.bias):
            if tensor is not None:
                tensor[: one.features] = 0
        group = graph.get_pruning_group(
            without.get_submodule(one.query), tp.prune_linear_out_channels, list(range(one.features))
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            group.prune()
        one.recount(without)
    try:
        answers = run_network(without, inputs)
    except Exception:  # whatever a forward raises that finds other widths than it was written for
        return False
    wanted = run_network(silenced, inputs)
    return all(_equal(answers[name], tensor) for name, tensor in wanted.items())


def _equal(answer: Tensor, wanted: Tensor) -> bool:
    """Return whether two outputs differ by rounding alone."""
    return answer.shape == wanted.shape and bool((answer - wanted).abs().max() <= _ROUNDING * wanted.abs().max())
