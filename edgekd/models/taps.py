"""Capturing what happens inside a network at named places, without editing it."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekd.errors import InputError
from edgekd.models.network import named_outputs, run_network

_ROUNDERS = "activation_post_process"  # how torchao calls what it inserts for fake quantization
PENULTIMATE = "penultimate"  # what goes into the last layer with weights
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WEIGHTED = ("linear", "conv1d", "conv2d", "conv3d", "addmm", "convolution")


class _Reached(Exception):
    """All that was asked for is captured; the rest of the network need not run."""


class Taps:
    """A network with named taps: `path` is what the module returns, `path:input` what goes into it.

    `penultimate` stands for the input of the last linear or convolution layer. Of an exported graph, where modules are
    gone, the places are found by what each operation says of the module it came from (`nn_module_stack`).

    Raises:
        InputError: there is no such module; the nearest names are given.
    """

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        self.module = module
        self.names = tuple(dict.fromkeys(names))
        self._graph = module if isinstance(module, fx.GraphModule) and _made_of_operations(module) else None
        self._places: dict[str, str] = {}
        self._nodes: dict[str, fx.Node] = {}
        for name in self.names:
            if self._graph is not None:
                self._nodes[name] = _node_of(self._graph, name)
            else:
                self._places[name] = _place_of(module, name)
        order = list(self._graph.graph.nodes) if self._graph is not None else []
        self._last = max(self._nodes.values(), key=order.index, default=None)

    def run(
        self, inputs: Mapping[str, Tensor], *, outputs: bool = True, replaced: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run the network; return its outputs and the captured tensors by tap.

        Args:
            inputs: by name, in the signature's order.
            outputs: False stops the network behind the last tap; the outputs are then empty.
            replaced: what modules return in place of their own answer, by path.

        Raises:
            InputError: a tap captured nothing, or something else than a tensor.
        """
        if self._graph is not None and (self.names or replaced):
            return self._run_graph(inputs, replaced or {}, outputs=outputs)
        captured: dict[str, Tensor] = {}
        with self._hooks(captured, stop=not outputs and not replaced), _replacing(self.module, replaced or {}):
            try:
                answer = run_network(self.module, inputs)
            except _Reached:
                answer = {}
        _check_captured(self.names, captured)
        return (answer if outputs else {}), captured

    @contextmanager
    def _hooks(self, captured: dict[str, Tensor], *, stop: bool) -> Iterator[None]:
        handles = []

        def keep(name: str, value: Any) -> None:
            captured[name] = _first_tensor(value, name)
            if stop and len(captured) == len(self.names):
                raise _Reached

        for name, place in self._places.items():
            path, _, side = place.partition(":")
            module = self.module.get_submodule(path)
            if side:
                hook = lambda _module, given, name=name: keep(name, given)  # noqa: E731
                handles.append(module.register_forward_pre_hook(hook))
            else:
                after = lambda _module, _given, made, name=name: keep(name, made)  # noqa: E731
                handles.append(module.register_forward_hook(after))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _run_graph(
        self, inputs: Mapping[str, Tensor], replaced: Mapping[str, Tensor], *, outputs: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        assert self._graph is not None
        wanted: dict[fx.Node, list[str]] = {}
        for name, node in self._nodes.items():
            wanted.setdefault(node, []).append(name)
        instead = {_node_of(self._graph, path): tensor for path, tensor in replaced.items()}
        stop = None if outputs or replaced else self._last
        interpreter = _Capturing(self._graph, wanted, instead, stop)
        try:
            answer = named_outputs(interpreter.run(*inputs.values()))
        except _Reached:
            answer = {}
        _check_captured(self.names, interpreter.captured)
        return (answer if outputs else {}), interpreter.captured


class _Capturing(fx.Interpreter):
    """Run a graph node by node, keep what some of them give, put tensors in place of others, and stop behind one."""

    def __init__(
        self,
        module: fx.GraphModule,
        wanted: Mapping[fx.Node, Sequence[str]],
        instead: Mapping[fx.Node, Tensor],
        stop: fx.Node | None,
    ) -> None:
        super().__init__(module)
        self.extra_traceback = False  # the end of a run that stops early is no failure
        self._wanted, self._instead, self._stop = wanted, instead, stop
        self.captured: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = self._instead[n] if n in self._instead else super().run_node(n)
        for name in self._wanted.get(n, ()):
            self.captured[name] = _first_tensor(result, name)
        if n is self._stop:
            raise _Reached
        return result


def _made_of_operations(module: nn.Module) -> bool:
    """Return whether a network is a graph with plain operations, as `torch.export` makes them: not all layers are modules."""
    if not isinstance(module, fx.GraphModule):
        return False
    operations = [node for node in module.graph.nodes if node.op == "call_function"]
    return any(isinstance(node.target, torch._ops.OpOverload) for node in operations)


def _check_captured(names: Sequence[str], captured: Mapping[str, Tensor]) -> None:
    missing = [name for name in names if name not in captured]
    if missing:
        raise InputError(f"the taps {', '.join(missing)} captured nothing: the network does not run these modules")


def _first_tensor(value: Any, name: str) -> Tensor:
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    if isinstance(value, Mapping) and value:
        return _first_tensor(next(iter(value.values())), name)
    if not isinstance(value, Tensor):
        raise InputError(f"the tap {name} gives {type(value).__name__}, no tensor")
    return value


@contextmanager
def _replacing(module: nn.Module, replaced: Mapping[str, Tensor]) -> Iterator[None]:
    handles = [
        module.get_submodule(path).register_forward_hook(lambda _module, _given, _made, tensor=tensor: tensor)
        for path, tensor in replaced.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _place_of(module: nn.Module, name: str) -> str:
    if name == PENULTIMATE:
        layers = [path for path, layer in module.named_modules() if isinstance(layer, _LAYERS)]
        if not layers:
            raise InputError("there is no linear or convolution layer, so no penultimate tap; name a module")
        return f"{layers[-1]}:input"
    path, _, side = name.partition(":")
    paths = [path for path, _ in module.named_modules() if path]
    _check_path(path, side, name, paths)
    return name


def check_module(module: nn.Module, path: str) -> None:
    """Check that a network has a module of that path.

    Raises:
        InputError: it has none; the nearest names are given.
    """
    _check_path(path, "", path, [name for name, _ in module.named_modules() if name])


def _check_path(path: str, side: str, name: str, paths: Sequence[str]) -> None:
    if side not in ("", "input"):
        raise InputError(f"the tap {name!r}: write PATH, or PATH:input")
    if path not in paths:
        nearest = difflib.get_close_matches(path, paths, n=3, cutoff=0.4) or list(paths[-3:])
        raise InputError(f"no module `{path}`; nearest: {', '.join(nearest) or 'none'} (`edgekd inspect` lists all)")


def _stack(node: fx.Node) -> list[str]:
    """Return the paths of the modules that an operation of an exported graph came from, outermost first."""
    stack = node.meta.get("nn_module_stack") or {}
    return [str(entry[0]).removeprefix("L['self']").lstrip(".") for entry in stack.values()]


def _node_of(graph: fx.GraphModule, name: str) -> fx.Node:
    nodes = [node for node in graph.graph.nodes if node.op == "call_function" or _is_layer(node)]
    if name == PENULTIMATE:
        weighted = [node for node in nodes if _has_weights(graph, node)]
        if not weighted:
            raise InputError("there is no linear or convolution layer, so no penultimate tap; name a module")
        return weighted[-1].all_input_nodes[0]
    path, _, side = name.partition(":")
    came_from = {node: [*_stack(node), *([str(node.target)] if node.op == "call_module" else [])] for node in nodes}
    _check_path(
        path, side, name, list(dict.fromkeys(entry for stack in came_from.values() for entry in stack if entry))
    )
    inside = [node for node in nodes if path in came_from[node]]
    if not side:
        return _unscaled(inside[-1])
    members = set(inside)
    for node in inside:
        for given in node.all_input_nodes:
            if given not in members and given.op != "get_attr" and "val" in given.meta:
                return given
    raise InputError(f"the tap {name}: nothing goes into the module {path}")


def _operator(node: fx.Node) -> str:
    """Return the name of an operator, such as `conv2d`; empty for other functions."""
    return node.target.overloadpacket.__name__ if isinstance(node.target, torch._ops.OpOverload) else ""


def _is_layer(node: fx.Node) -> bool:
    return node.op == "call_module" and not str(node.target).startswith(_ROUNDERS)


def _has_weights(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), _LAYERS)
    return _operator(node) in _WEIGHTED


def _unscaled(node: fx.Node) -> fx.Node:
    """Return where a convolution's own answer stands.

    Before a batch norm, preparing for fake quantization scales a convolution's weights by the norm's factors and leaves its
    bias out; what undoes both stands behind it.
    """
    if not _operator(node).startswith("conv"):
        return node
    behind = node
    while len(behind.users) == 1:
        (user,) = behind.users
        if "batch_norm" in _operator(user):
            return behind
        if _operator(user) not in ("div", "mul", "add") or user.args[0] is not behind:
            return node
        behind = user
    return node
