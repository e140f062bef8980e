"""Parallel branches of one input that are added up become one convolution."""

from typing import Any, ClassVar, Literal

from torch import nn

from edgekd.context import Context
from edgekd.models.dataflow import Dataflow, trace_dataflow
from edgekd.models.edits.branches import Branch, merge_edit
from edgekd.models.signature import Signature
from edgekd.stages.rewrite.rewrite import Change, TorchRewrite
from edgekd.state import ModelState


def mergeable(module: nn.Module, signature: Signature) -> list[list[Branch]]:
    """Return groups of branches that one convolution can stand for, that with the largest kernel first.

    A branch is a convolution, one with a batch norm behind it, or a batch norm, all of them layers that run once; a plain
    shortcut stays a sum.

    Raises:
        InputError: the network does not run.
    """
    flow = trace_dataflow(module, signature)
    terms = {term for sum_terms in flow.sums.values() for term in sum_terms if flow.readers[term] == 1}
    groups = []
    for result in flow.sums:
        if result in terms:  # part of a larger sum
            continue
        by_input: dict[int, list[Branch]] = {}
        for term in _terms(flow, result):
            branch = _branch(module, flow, term)
            if branch is not None:
                by_input.setdefault(branch[0], []).append(branch[1])
        groups += [group for one in by_input.values() for group in _alike(module, one)]
    return groups


def _terms(flow: Dataflow, value: int) -> list[int]:
    """Return the terms of a sum, those of sums within it that nothing else reads included."""
    found = []
    for term in flow.sums[value]:
        found += _terms(flow, term) if term in flow.sums and flow.readers[term] == 1 else [term]
    return found


def _branch(module: nn.Module, flow: Dataflow, term: int) -> tuple[int, Branch] | None:
    """Return the branch that makes a term, and the value that the branch reads."""
    makers = flow.makers()
    last = makers.get(term)
    if last is None or flow.readers[term] != 1:
        return None
    layer = module.get_submodule(last.layer)
    if isinstance(layer, nn.modules.conv._ConvNd):
        return last.reads, (last.layer, None)
    if not isinstance(layer, nn.modules.batchnorm._BatchNorm) or layer.running_mean is None:
        return None
    before = makers.get(last.reads)
    conv = before is not None and isinstance(module.get_submodule(before.layer), nn.modules.conv._ConvNd)
    if before is not None and conv and flow.readers[last.reads] == 1:
        return before.reads, (before.layer, last.layer)
    return last.reads, (None, last.layer)


def _alike(module: nn.Module, branches: list[Branch]) -> list[list[Branch]]:
    """Return the groups, of two branches at least, whose kernels have the same centre, steps and groups of channels."""
    kinds: dict[Any, list[tuple[int, Branch]]] = {}
    alone: list[tuple[int, Branch]] = []
    for conv, norm in branches:
        if conv is None:
            alone.append((0, (None, norm)))
            continue
        layer: Any = module.get_submodule(conv)
        plain = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and isinstance(layer.padding, tuple)
        if (
            plain
            and layer.padding_mode == "zeros"
            and set(layer.dilation) == {1}
            and all(k % 2 for k in layer.kernel_size)
        ):
            offset = tuple(k - 2 * p for k, p in zip(layer.kernel_size, layer.padding, strict=True))
            kind = (type(layer), layer.stride, layer.groups, layer.in_channels, layer.out_channels, offset)
            kinds.setdefault(kind, []).append((max(layer.kernel_size), (conv, norm)))
    for (_, stride, _, inputs, outputs, offset), found in kinds.items():
        if alone and set(stride) == {1} and inputs == outputs and set(offset) == {1}:
            found += alone
            alone = []
    groups = []
    for found in kinds.values():
        found.sort(key=lambda one: -one[0])
        first: Any = module.get_submodule(str(found[0][1][0]))
        fits = [branch for _, branch in found if _within(module, branch[0], first.kernel_size)]
        if len(fits) > 1:
            groups.append(fits)
    return groups


def _within(module: nn.Module, conv: str | None, largest: tuple[int, ...]) -> bool:
    layer: Any = module.get_submodule(conv) if conv is not None else None
    return layer is None or all(own <= big for own, big in zip(layer.kernel_size, largest, strict=True))


class MergeBranches(TorchRewrite):
    """Parallel convolutions and batch norms of one input that are added up become one convolution."""

    title: ClassVar[str] = "Merged parallel branches"
    source: ClassVar[str] = "Ding et al., RepVGG, arXiv 2101.03697, section 3.3"
    evidence: ClassVar[str] = "D"
    applies: ClassVar[str] = (
        "sums of convolutions and batch norms of equal centre, stride and groups; exact in eval mode"
    )

    kind: Literal["merge-branches"] = "merge-branches"

    def rewrite(self, state: ModelState, context: Context) -> Change:
        """Merge all that can be."""
        groups = mergeable(state.torch.module, state.signature)
        if not groups:
            return Change("no parallel convolutions and batch norms of one input are added up")
        form = self.edited(state.torch, merge_edit(groups), state.signature)
        merged = sum(map(len, groups))
        return Change(
            f"{merged} branches became {len(groups)} convolutions", form, {"into": [str(one[0][0]) for one in groups]}
        )
