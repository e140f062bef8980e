"""What flows where in a torch network: which layer reads what another one makes, and what is added up.

Found by running it once, so that whatever its code does on the way is no obstacle, and no code of it is changed.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from edgekd.errors import InputError
from edgekd.models.network import example_inputs, run_network
from edgekd.models.signature import Signature

ADDS = (torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__)


@dataclass(frozen=True)
class Call:
    """A call of a layer without layers inside: its path, the numbers of the value it reads and the one it makes, its shape."""

    layer: str
    reads: int
    makes: int
    shape: tuple[int, ...]


@dataclass
class Dataflow:
    """Every call of a layer, every sum as its result and its terms, and how often each value is read. Values are numbered."""

    calls: list[Call] = field(default_factory=list)
    sums: dict[int, tuple[int, ...]] = field(default_factory=dict)
    readers: Counter[int] = field(default_factory=Counter)

    def single_calls(self) -> dict[str, Call]:
        """Return the calls of layers that run once, by path."""
        times = Counter(call.layer for call in self.calls)
        return {call.layer: call for call in self.calls if times[call.layer] == 1}

    def reads(self, layer: str) -> list[int]:
        """Return the values that a layer reads, one a call, in order."""
        return [call.reads for call in self.calls if call.layer == layer]

    def makers(self) -> dict[int, Call]:
        """Return the calls of layers that run once, by the value they make."""
        return {call.makes: call for call in self.single_calls().values()}


@torch.no_grad()
def trace_dataflow(module: nn.Module, signature: Signature) -> Dataflow:
    """Run a network in eval mode on random inputs and return what flows where.

    Raises:
        InputError: the network does not run.
    """
    flow, recorder = Dataflow(), _Recorder()
    handles = []
    for name, layer in module.named_modules():
        if name and not any(layer.children()):
            handles.append(layer.register_forward_pre_hook(recorder.enter))
            handles.append(layer.register_forward_hook(recorder.leave(name)))
    module.eval()
    recorder.flow = flow
    try:
        with recorder:
            outputs = run_network(module, example_inputs(signature))
    except InputError:
        raise
    except Exception as error:  # whatever the user's forward raises
        raise InputError(f"the network does not run on random inputs: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
    flow.readers.update(recorder.number(tensor) for tensor in outputs.values())
    return flow


class _Recorder(TorchFunctionMode):
    """Numbers values and notes calls. A value changed in place gets a new number."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = Dataflow()
        self._numbers: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that no two values share an identity
        self._read: list[int] = []  # by the layers that are running
        self._count = 0

    def number(self, tensor: Tensor) -> int:
        """Return the number of a value."""
        return self._numbers[id(tensor)] if id(tensor) in self._numbers else self._new(tensor)

    def enter(self, _layer: nn.Module, given: tuple[Any, ...]) -> None:
        """Note what goes into a layer."""
        numbers = [self.number(one) for one in tree_leaves(given) if isinstance(one, Tensor)]
        self.flow.readers.update(numbers)
        self._read.append(numbers[0] if len(numbers) == 1 else -1)

    def leave(self, name: str) -> Any:
        """Return a hook that notes what a layer of this path makes."""

        def hook(_layer: nn.Module, _given: Any, made: Any) -> None:
            read = self._read.pop()
            if isinstance(made, Tensor) and read >= 0:
                self.flow.calls.append(Call(name, read, self._new(made), tuple(made.shape)))

        return hook

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._read or getattr(function, "__name__", "") == "__get__":  # inside a layer; an attribute such as shape
            return function(*args, **kwargs)
        terms = [self.number(one) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        plain = function in ADDS and not kwargs and all(isinstance(one, Tensor) or one == 0 for one in args)
        result = function(*args, **kwargs)
        self.flow.readers.update(terms)
        if isinstance(result, Tensor):
            number = self._new(result)
            if plain and all(one.shape == result.shape for one in args if isinstance(one, Tensor)):
                self.flow.sums[number] = tuple(terms)
        return result

    def _new(self, tensor: Tensor) -> int:
        self._alive.append(tensor)
        self._count += 1
        self._numbers[id(tensor)] = self._count
        return self._count
