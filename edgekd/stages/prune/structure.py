"""What pruning must know of a network beside its dependency graph, seen in one run through it."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from edgekd.errors import InputError
from edgekd.models.network import example_inputs, run_network
from edgekd.models.signature import Signature

ATTENTION = (
    "an attention is three linear layers, of query, key and value, in F.scaled_dot_product_attention(query, key, value) or "
    "softmax(query @ key) @ value"
)
WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
_READ = ("__bool__", "__float__", "__int__", "__index__", "item", "tolist")  # a tensor's value becomes Python's
_PRODUCTS = ("matmul", "__matmul__", "bmm", "baddbmm", "einsum")


@dataclass(frozen=True)
class Attention:
    """The layers that make query, key and value of an attention, and the number of its heads."""

    query: nn.Module
    key: nn.Module
    value: nn.Module
    heads: int


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
        return [self._made[node] for node in self.nodes(tensor)]

    def nodes(self, tensor: Tensor, others: Container[Any] = ()) -> list[Any]:
        """Return the first nodes met walking back from a tensor that are a weighted layer's, or among others."""
        found, seen, waiting = [], set(), [tensor.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node in self._made or node in others:
                found.append(node)
            else:
                waiting.extend(parent for parent, _ in node.next_functions)
        return found

    def close(self) -> None:
        """Take the hooks off again."""
        for hook in self._hooks:
            hook.remove()


class _WatchCalls(TorchFunctionMode):
    """Notes the query, key and value layers of every attention with its heads, and refuses branches on values.

    Raises:
        InputError: forward asks for the value of a tensor that depends on its input.
    """

    def __init__(self, origins: _Origins, own: set[int]) -> None:
        super().__init__()
        self.attentions: list[Attention] = []
        self.fused: list[nn.Module] = []  # one layer makes query, key and value together
        self._products: dict[Any, tuple[Tensor, Tensor]] = {}  # operands by node
        self._softmaxes: dict[Any, tuple[Tensor, Tensor]] = {}  # operands of the product that it is taken of
        self._origins = origins
        self._own = own  # ids of the network's own tensors: what they hold is no matter of the input

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in _READ and id(args[0]) not in self._own and (name == "__bool__" or args[0].requires_grad):
            raise InputError(
                "forward decides by the values of a tensor (dynamic control flow), and pruning sees one of the ways only; "
                "write torch.where or torch.cond, or leave pruning out"
            )
        if function is functional.scaled_dot_product_attention and all(tensor.ndim == 4 for tensor in args[:3]):
            self._note([self._origins.of(tensor) for tensor in args[:3]], args[0].shape[1])
        made = function(*args, **(kwargs or {}))
        tensors = _tensors((*args, *(kwargs or {}).values()))
        if name in _PRODUCTS and len(tensors) > 1:
            self._multiplied(made, *tensors[-2:])
        elif name == "softmax":
            of = [
                self._products[node]
                for node in self._origins.nodes(tensors[0], self._products)
                if node in self._products
            ]
            if len(of) == 1:
                self._softmaxes[made.grad_fn] = of[0]
        return made

    def _multiplied(self, made: Tensor, left: Tensor, right: Tensor) -> None:
        """Keep a product of which a softmax may be taken, or note the attention whose second product it is."""
        self._products[made.grad_fn] = left, right
        for weights, value in ((left, right), (right, left)):
            for node in self._origins.nodes(weights, self._softmaxes):
                if node in self._softmaxes:
                    query, key = self._softmaxes[node]
                    layers = [self._origins.of(tensor) for tensor in (query, key, value)]
                    if all(len(made) == 1 for made in layers):
                        self._note(layers, int(getattr(layers[0][0], "out_features", 0)) // query.shape[-1])
                    return

    def _note(self, layers: Sequence[Sequence[nn.Module]], heads: int) -> None:
        flat = [layer for made in layers for layer in made]
        if len(flat) != 3 or len(set(flat)) != 3:
            self.fused.extend(flat)
        elif heads:
            query, key, value = flat
            self.attentions.append(Attention(query, key, value, heads))


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among arguments; einsum may have them in a list."""
    flat = [one for value in values for one in (value if isinstance(value, (list, tuple)) else [value])]
    return [one for one in flat if isinstance(one, Tensor)]


@dataclass(frozen=True)
class Structure:
    """Output layers, attentions, layers that make query, key and value together, layers with one weight."""

    outputs: tuple[nn.Module, ...]
    attentions: tuple[Attention, ...]
    fused: tuple[nn.Module, ...]
    tied: tuple[nn.Module, ...]

    @property
    def heads(self) -> dict[nn.Module, int]:
        """Return the number of heads by query, key and value layer."""
        return {layer: one.heads for one in self.attentions for layer in (one.query, one.key, one.value)}


def structure_of(module: nn.Module, signature: Signature) -> Structure:
    """Run the network once and return its structure.

    Output layers are those after which nothing weighted comes. Features of an attention head stay in their head. The
    weights must not be frozen: the layers are found through their gradients.

    Raises:
        InputError: which way forward takes depends on its input.
    """
    origins = _Origins(module)
    own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    inputs = {name: _watched(tensor) for name, tensor in example_inputs(signature).items()}
    try:
        with torch.enable_grad(), _WatchCalls(origins, own) as calls:
            outputs = run_network(module, inputs)
        layers = dict.fromkeys(layer for tensor in outputs.values() for layer in origins.of(tensor))
    finally:
        origins.close()
    return Structure(tuple(layers), tuple(calls.attentions), tuple(calls.fused), tied_layers(module))


def tied_layers(module: nn.Module) -> tuple[nn.Module, ...]:
    """Return the layers that hold one and the same parameter, as an embedding and the head that reads it backwards."""
    holders: dict[int, list[nn.Module]] = {}
    for layer in module.modules():
        for parameter in layer.parameters(recurse=False):
            holders.setdefault(id(parameter), []).append(layer)
    return tuple(dict.fromkeys(layer for layers in holders.values() if len(layers) > 1 for layer in layers))


def _watched(tensor: Tensor) -> Tensor:
    """Return a tensor whose gradient says what depends on it; a copy, which forward may write into."""
    return tensor.requires_grad_().clone() if tensor.is_floating_point() else tensor
