"""Depth: whole blocks of a residual network, which can be left out because each only adds to what it is given.

Source: Men et al., ShortGPT, 2024, equation 1, and Muralidharan et al., Minitron, 2024: block influence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgekd.data import Part
from edgekd.errors import InputError
from edgekd.evaluate import run_module
from edgekd.models.dataflow import ADDS
from edgekd.models.edits.branches import drop_edit, drop_modules
from edgekd.models.network import example_inputs, run_network
from edgekd.models.signature import Signature


@dataclass(frozen=True)
class Row:
    """Consecutive blocks of one class in a container; `removable` are those that may be left out, by path."""

    blocks: tuple[str, ...]
    removable: tuple[str, ...]

    def may_lose(self, largest_cut: float) -> int:
        """Return how many blocks may go."""
        return min(len(self.removable), int(len(self.blocks) * largest_cut + 1e-9))


def rows_of(module: nn.Module, signature: Signature, keep: Sequence[str] = ()) -> list[Row]:
    """Return the rows of blocks of a network, those that may lose some.

    A block may go if it adds to what it is given, answers in the same shape, runs once, is neither the first nor the last of
    its row, and `keep` names neither it nor what is in it or around it.
    """
    rows = [row for name, container in module.named_modules() for row in _rows(name, container)]
    residual = _residual(module, signature, [name for row in rows for name in row])
    free = {name for name in residual if not any(_within(name, one) or _within(one, name) for one in keep)}
    found = [Row(row, tuple(name for name in row[1:-1] if name in free)) for row in rows]
    return [row for row in found if row.removable]


def influences(module: nn.Module, names: Sequence[str], part: Part) -> dict[str, float]:
    """Return the block influence of each block on the samples of a part: 1 - E[cos(x, block(x))].

    The vectors are the tokens, or the channels at each position of an image.

    Raises:
        InputError: one is not finite.
    """
    sums: dict[str, tuple[float, int]] = {}

    def watch(name: str) -> Any:
        block = module.get_submodule(name)
        axis = 1 if any(isinstance(layer, nn.modules.conv._ConvNd) for layer in block.modules()) else -1

        def note(_block: nn.Module, given: tuple[Any, ...], made: Tensor) -> None:
            alike = torch.cosine_similarity(given[0].double(), made.double(), dim=axis)
            total, count = sums.get(name, (0.0, 0))
            sums[name] = total + float(alike.sum()), count + alike.numel()

        return block.register_forward_hook(note)

    hooks = [watch(name) for name in names]
    try:
        run_module(module, part)
    finally:
        for hook in hooks:
            hook.remove()
    found = {name: 1 - total / count for name, (total, count) in sums.items()}
    wrong = [name for name, value in found.items() if value != value]
    if wrong:
        raise InputError(f"the block {wrong[0]} makes or is given NaN or infinite values on the calibration part")
    return found


def order_of(rows: Sequence[Row], influence: Mapping[str, float], largest_cut: float) -> list[str]:
    """Return the blocks that may go, least influence first; no row loses more than its share."""
    left = {row: row.may_lose(largest_cut) for row in rows}
    row_of = {name: row for row in rows for name in row.removable}
    order = []
    for name in sorted(row_of, key=lambda name: influence[name]):
        if left[row_of[name]]:
            left[row_of[name]] -= 1
            order.append(name)
    return order


def drop_until(
    module: nn.Module, signature: Signature, order: Sequence[str], met: Callable[[nn.Module], bool], *, beyond: bool
) -> list[str]:
    """Drop blocks in order, in place, until `met` says so, and return them.

    Without `beyond` the block that would pass the budget stays: something finer does the rest.
    """
    dropped: list[str] = []
    for name in order:
        if met(module):
            break
        block = module.get_submodule(name)
        drop_modules(module, drop_edit([name], "identity"), signature)
        if not beyond and met(module):
            module.set_submodule(name, block)
            break
        dropped.append(name)
    return dropped


def _rows(path: str, container: nn.Module) -> list[tuple[str, ...]]:
    """Return the runs of at least three consecutive members of one class, which have layers inside."""
    if not isinstance(container, (nn.Sequential, nn.ModuleList)):
        return []
    rows: list[list[str]] = []
    before: type[nn.Module] | None = None
    for name, block in container.named_children():
        if type(block) is not before:
            rows.append([])
        before = type(block)
        rows[-1].append(f"{path}.{name}" if path else name)
    return [tuple(row) for row in rows if len(row) > 2]


def _within(name: str, module: str) -> bool:
    return f"{name}.".startswith(f"{module}.")


def _residual(module: nn.Module, signature: Signature, names: Sequence[str]) -> set[str]:
    """Return which of these blocks run once, add something to what they are given, and answer in its shape."""
    seen: dict[str, list[bool]] = {}
    with _WatchSums() as sums:
        hooks: list[Any] = []
        for name in names:
            block = module.get_submodule(name)

            def enter(_block: nn.Module, given: tuple[Any, ...]) -> None:
                sums.given.append((given[0] if given else None, False))

            def leave(_block: nn.Module, given: tuple[Any, ...], made: Any, name: str = name) -> None:
                x, added = sums.given.pop()
                alike = isinstance(x, Tensor) and isinstance(made, Tensor) and made.shape == x.shape
                seen.setdefault(name, []).append(added and alike)

            hooks += [block.register_forward_pre_hook(enter), block.register_forward_hook(leave)]
        try:
            run_network(
                module, example_inputs(signature)
            )  # with gradients: torch's own encoder layer hides its sums without
        finally:
            for hook in hooks:
                hook.remove()
    return {name for name, calls in seen.items() if calls == [True]}


class _WatchSums(TorchFunctionMode):
    """Notes for every block that is running whether what it is given is a term of a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[Any, bool]] = []  # of the blocks that are running, outermost first

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in ADDS:
            self.given = [(x, added or any(one is x for one in args)) for x, added in self.given]
        return function(*args, **(kwargs or {}))
