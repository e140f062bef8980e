"""The dependency graph at work: cutting channels until a budget is met."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from edgekd.data import Part
from edgekd.errors import EdgekdError, InputError, StageError
from edgekd.models.edits import Edit, prune_edit
from edgekd.models.edits.channels import renew_offsets
from edgekd.models.edits.heads import heads_edit
from edgekd.models.network import example_inputs, run_network
from edgekd.models.signature import Signature
from edgekd.stages.prune.groups import Axis, Group, groups_of, left_alone
from edgekd.stages.prune.parts import parts_of
from edgekd.stages.prune.ranking import Ranking
from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.prune.structure import WEIGHTED, structure_of
from edgekd.stages.prune.tracing import graph_of, in_order
from edgekd.stages.prune.whole_heads import WholeHeads, head_counts, whole_heads
from edgekd.stages.prune.widths import least_important, legal_width

_FIXED_WIDTH = (
    "where forward names a width, as x.view(-1, 320) does, write x.flatten(1), or name the layers before it in keep"
)


def prune_until(
    module: nn.Module,
    signature: Signature,
    settings: PruneSettings,
    granularity: int,
    met: Callable[[nn.Module], bool],
    calibration: Part | None = None,
    costs: Mapping[str, float] | None = None,
    attentions: Sequence[WholeHeads] | None = None,
) -> list[list[Any]]:
    """Cut channels in small steps, in place, until `met` says so; return the history of cuts.

    Channel counts stay multiples of `granularity` where the layer allows it.

    Args:
        module: the network.
        signature: its inputs.
        settings: how channels are ranked; the budget is the matter of `met`.
        granularity: the multiple.
        met: is asked before every step.
        calibration: samples, for importances that need them.
        costs: what a channel costs, by layer that loses it, in any unit: the importance is divided by it.
        attentions: whose heads go as a whole; None: it is tried which can.

    Raises:
        InputError: the network cannot be traced, its weights or activations are not finite, a name in `keep` is no module,
            or it has no such axis.
        StageError: the network does not run with fewer channels, or its outputs changed shape.
    """
    import torch_pruning as tp

    _check_finite(module)
    structure = structure_of(module, signature)
    graph = graph_of(module, signature)
    ignored = left_alone(graph, module, signature, structure, settings.keep, settings.axes)
    if attentions is None:
        attentions = whole_heads(module, signature, structure, graph)
    whole = {module.get_submodule(name) for one in attentions for name in (one.query, one.key, one.value)}
    heads = {layer: count for layer, count in structure.heads.items() if layer not in whole}
    together = settings.scope != "local"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            module,
            tuple(example_inputs(signature).values()),
            importance=None,
            global_pruning=together,
            isomorphic=settings.scope == "isomorphic",
            pruning_ratio=0.98 if together else settings.largest_cut,
            max_pruning_ratio=settings.largest_cut,
            iterative_steps=settings.steps,
            ignored_layers=ignored,
            num_heads=heads,
            in_channel_groups={},  # the defaults are shared by all pruners of a process, and grow
            out_channel_groups={},
            round_to=granularity,
            root_module_types=list(WEIGHTED),
        )
        in_order(pruner.DG)
        for group in groups_of(pruner.DG, ignored):
            pruner.out_channel_groups[group[0].dep.target.module] = parts_of(pruner.DG, group, heads) or 1
        with _same_shapes(module, signature) as check:
            for _ in range(settings.steps):
                if met(module):
                    break
                ranking = Ranking(module, settings, attentions, calibration, costs or {})
                pruner.importance = ranking
                for group in pruner.step(interactive=True):
                    _cut(pruner, group, ranking, granularity, settings.largest_cut)
                check()
    return [list(entry) for entry in pruner.pruning_history()]


def prune_to_shares(
    module: nn.Module,
    signature: Signature,
    settings: PruneSettings,
    granularity: int,
    shares: Mapping[Axis | None, float],
    groups: Sequence[Group],
    attentions: Sequence[WholeHeads],
    calibration: Part | None = None,
) -> list[list[Any]]:
    """Cut groups to a share of its channels at once, in place; return the history of cuts.

    Args:
        module: the network.
        signature: its inputs.
        settings: how channels are ranked.
        granularity: channel counts are the least multiples of it that are not below the shares.
        shares: of the channels that stay, by axis, None for what is none of a transformer's; other groups stay as they are.
        groups: the network's, which may lack some of their layers by now.
        attentions: whose heads go as a whole, likewise.
        calibration: samples, for importances that need them.

    Raises:
        InputError: as `prune_until`.
        StageError: as `prune_until`.
    """
    _check_finite(module)
    there = dict(module.named_modules())
    attentions = [one for one in attentions if one.query in there]
    graph, ranking = graph_of(module, signature), Ranking(module, settings, attentions, calibration, {})
    cuts = []
    for group in groups:
        if group.axis not in shares or group.root not in there:
            continue
        layer = module.get_submodule(group.root)
        outwards = graph.get_pruner_of_module(layer).prune_out_channels
        values = ranking(graph.get_pruning_group(layer, outwards, list(range(group.channels))))
        width = group.channels // group.parts
        wanted = shares[group.axis] * width
        kept = legal_width(wanted, width, settings.largest_cut, group.multiple(granularity))
        if kept < width and values is not None:
            cuts.append((layer, outwards, least_important(values, group.parts, width - kept)))
    with _same_shapes(module, signature) as check:
        for layer, outwards, indices in cuts:  # ranked before the first cut
            _prune(graph, graph.get_pruning_group(layer, outwards, indices), ranking)
        check()
    return [list(entry) for entry in graph.pruning_history()]


def width_edits(module: nn.Module, history: Sequence[Sequence[Any]], attentions: Sequence[WholeHeads]) -> list[Edit]:
    """Return the edits that do what a history of cuts did to a network: channels go, then attentions know their heads.

    Args:
        module: the network after the cuts.
        history: of the cuts.
        attentions: whose heads could go as a whole, as they were before.
    """
    if not history:
        return []
    there = dict(module.named_modules())
    counts = head_counts(module, [one for one in attentions if one.query in there and one.left(module) != one.heads])
    return [prune_edit(history), *([heads_edit(counts)] if counts else [])]


def _cut(pruner: Any, group: Any, ranking: Ranking, granularity: int, largest_cut: float) -> None:
    """Cut what Torch-Pruning proposes, or less where it would pass the limit, which it tests before a cut only."""
    layer, function, graph = group[0].dep.target.module, group[0].dep.handler, pruner.DG
    outwards = graph.is_out_channel_pruning_fn(function)
    whole = (pruner.layer_init_out_ch if outwards else pruner.layer_init_in_ch)[layer]
    now = (graph.get_out_channels if outwards else graph.get_in_channels)(layer)
    heads = ranking.heads_of(group)
    parts = max(
        (pruner.out_channel_groups if graph.is_out_channel_pruning_fn(dep.handler) else pruner.in_channel_groups).get(
            dep.target.module, 1
        )
        for dep, _ in group
    )
    multiple = math.lcm(granularity, heads.features) if heads is not None else granularity
    wanted = (now - len(group[0].idxs)) / parts
    cut = now // parts - legal_width(wanted, whole // parts, largest_cut, multiple)
    if cut <= 0:
        return
    if heads is not None or cut * parts != len(group[0].idxs):
        group = graph.get_pruning_group(layer, function, least_important(ranking.said(group), parts, cut))
    _prune(graph, group, ranking)


def _prune(graph: Any, group: Any, ranking: Ranking) -> None:
    heads = ranking.heads_of(group)
    group.prune()
    renew_offsets(graph)
    if heads is not None:
        heads.recount(ranking.module)


@contextmanager
def _same_shapes(module: nn.Module, signature: Signature) -> Iterator[Callable[[], None]]:
    """Give a function that checks that the network still runs, and makes outputs of the shapes that it made.

    Raises:
        StageError: it does not.
    """
    shapes = _shapes(module, signature)

    def check() -> None:
        after = _shapes(module, signature)
        if after != shapes:  # the batch too: a view to a fixed width takes what is missing from it
            raise StageError(f"pruning changed the outputs from {shapes} to {after}; {_FIXED_WIDTH}")

    try:
        yield check
    except EdgekdError:
        raise
    except Exception as error:  # whatever a forward raises that finds other widths than it was written for
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StageError(f"the network does not run with fewer channels: {first}; {_FIXED_WIDTH}") from error


def _check_finite(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if not parameter.isfinite().all():
            raise InputError(f"the weights {name} hold NaN or infinite values; nothing can be ranked by them")


@torch.no_grad()
def _shapes(module: nn.Module, signature: Signature) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in run_network(module, example_inputs(signature)).items()}
