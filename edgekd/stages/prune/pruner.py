"""The dependency graph at work: which layers may lose channels, and cutting them until a budget is met."""

import difflib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from edgekd.errors import InputError, StageError
from edgekd.models.network import example_inputs, run_network
from edgekd.models.signature import Signature
from edgekd.stages.prune.settings import PruneSettings

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
_FIXED_WIDTH = (
    "where forward names a width, as x.view(-1, 320) does, write x.flatten(1), or name the layers before it in keep"
)


class _Origins:
    """The weighted layers that made a tensor: the first ones met walking back through its autograd graph."""

    def __init__(self, module: nn.Module) -> None:
        self._made: dict[Any, nn.Module] = {}
        self._hooks = [
            layer.register_forward_hook(lambda layer, _inputs, output: self._made.__setitem__(output.grad_fn, layer))
            for layer in module.modules()
            if isinstance(layer, WEIGHTED)
        ]

    def of(self, tensor: Tensor) -> list[nn.Module]:
        """Return the layers that made this tensor."""
        found, seen, waiting = [], set(), [tensor.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node in self._made:
                found.append(self._made[node])
            else:
                waiting.extend(parent for parent, _ in node.next_functions)
        return found

    def close(self) -> None:
        """Take the hooks off again."""
        for hook in self._hooks:
            hook.remove()


class _WatchAttention(TorchFunctionMode):
    """Notes the query, key and value layers of every attention and its number of heads."""

    def __init__(self, origins: _Origins) -> None:
        super().__init__()
        self.heads: dict[nn.Module, int] = {}
        self.fused: list[nn.Module] = []  # one layer makes query, key and value together
        self._origins = origins

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is functional.scaled_dot_product_attention and all(tensor.ndim == 4 for tensor in args[:3]):
            layers = [self._origins.of(tensor) for tensor in args[:3]]
            flat = [layer for made in layers for layer in made]
            if len(flat) == 3 and len(set(flat)) == 3:
                self.heads |= dict.fromkeys(flat, args[0].shape[1])
            else:
                self.fused.extend(flat)
        return function(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Structure:
    """What pruning must know of a network beside its graph: output layers, attention heads, layers left alone."""

    outputs: tuple[nn.Module, ...]
    heads: dict[nn.Module, int]
    fused: tuple[nn.Module, ...]


def structure_of(module: nn.Module, signature: Signature) -> Structure:
    """Run the network once and return its structure.

    Output layers are those after which nothing weighted comes. Features of an attention head stay in their head. The
    weights must not be frozen: the layers are found through their gradients.
    """
    origins = _Origins(module)
    try:
        with torch.enable_grad(), _WatchAttention(origins) as attention:
            outputs = run_network(module, example_inputs(signature))
        layers = dict.fromkeys(layer for tensor in outputs.values() for layer in origins.of(tensor))
    finally:
        origins.close()
    return Structure(tuple(layers), attention.heads, tuple(attention.fused))


@dataclass
class Group:
    """One prunable group: the layer that names it, its channels, and every layer that loses channels with it."""

    root: str
    channels: int
    members: tuple[str, ...]


def prunable_groups(module: nn.Module, signature: Signature, keep: Sequence[str] = ()) -> list[Group]:
    """Return the groups of layers that can lose channels together.

    Raises:
        InputError: the network cannot be traced.
    """
    graph = _graph(module, signature)
    names = {layer: name for name, layer in module.named_modules()}
    ignored = _ignored(module, structure_of(module, signature), keep)
    groups = []
    for group in graph.get_all_groups(ignored_layers=ignored, root_module_types=list(WEIGHTED)):
        members = dict.fromkeys(names[dep.target.module] for dep, _ in group if dep.target.module in names)
        groups.append(Group(names[group[0].dep.target.module], len(group[0].idxs), tuple(members)))
    return groups


def prune_until(
    module: nn.Module,
    signature: Signature,
    settings: PruneSettings,
    granularity: int,
    met: Callable[[nn.Module], bool],
    gradients: Callable[[nn.Module], None] | None = None,
) -> list[list[Any]]:
    """Cut channels in small steps, in place, until `met` says so; return the history of cuts.

    Channel counts stay multiples of `granularity` where the layer allows it. `gradients` fills the parameters'
    gradients before a step, for importances that need them.

    Raises:
        InputError: the network cannot be traced, or a name in `keep` is no module.
        StageError: the network does not run with fewer channels, or its outputs changed shape.
    """
    import torch_pruning as tp

    structure = structure_of(module, signature)
    ignored = _ignored(module, structure, settings.keep)
    importance = {
        "magnitude": lambda: tp.importance.GroupMagnitudeImportance(p=2),
        "batch-norm": tp.importance.BNScaleImportance,
        "taylor": tp.importance.GroupTaylorImportance,
        "random": tp.importance.RandomImportance,
    }[settings.importance]()
    shapes = _shapes(module, signature)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pruner = tp.pruner.BasePruner(
                module,
                tuple(example_inputs(signature).values()),
                importance=importance,
                global_pruning=settings.scope == "global",
                pruning_ratio=settings.largest_cut if settings.scope == "local" else 0.98,
                max_pruning_ratio=settings.largest_cut,
                iterative_steps=settings.steps,
                ignored_layers=ignored,
                num_heads=structure.heads,
                round_to=granularity,
                root_module_types=list(WEIGHTED),
            )
        except Exception as error:  # whatever the tracing of a strange network raises
            raise InputError(
                f"cannot trace the network for pruning: {error}; distill and quantize still work"
            ) from error
        for _ in range(settings.steps):
            if met(module):
                break
            if gradients is not None:
                gradients(module)
            try:
                pruner.step()
                after = _shapes(module, signature)
            except Exception as error:  # whatever a forward raises that finds other widths than it was written for
                first = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise StageError(f"the network does not run with fewer channels: {first}; {_FIXED_WIDTH}") from error
            if after != shapes:  # the batch too: a view to a fixed width takes what is missing from it
                raise StageError(f"pruning changed the outputs from {shapes} to {after}; {_FIXED_WIDTH}")
    return [list(entry) for entry in pruner.pruning_history()]


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


def _graph(module: nn.Module, signature: Signature) -> Any:
    import torch_pruning as tp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return tp.DependencyGraph().build_dependency(module, tuple(example_inputs(signature).values()))
        except Exception as error:
            raise InputError(f"cannot trace the network for pruning: {error}") from error


def _ignored(module: nn.Module, structure: Structure, keep: Sequence[str]) -> list[nn.Module]:
    check_names(module, keep)
    modules = dict(module.named_modules())
    kept: Iterator[nn.Module] = (layer for name in keep for layer in modules[name].modules())
    return [*structure.outputs, *structure.fused, *kept]


@torch.no_grad()
def _shapes(module: nn.Module, signature: Signature) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in run_network(module, example_inputs(signature)).items()}
