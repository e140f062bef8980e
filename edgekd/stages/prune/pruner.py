"""The dependency graph at work: cutting channels until a budget is met."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.data import Part
from edgekd.errors import EdgekdError, InputError, StageError
from edgekd.models.network import example_inputs, run_network
from edgekd.models.signature import Signature
from edgekd.stages.prune.groups import graph_of, left_alone
from edgekd.stages.prune.importance import IMPORTANCES, Score
from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.prune.structure import WEIGHTED, structure_of

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

    Raises:
        InputError: the network cannot be traced, its weights or activations are not finite, a name in `keep` is no module,
            or it has no such axis.
        StageError: the network does not run with fewer channels, or its outputs changed shape.
    """
    import torch_pruning as tp

    _check_finite(module)
    structure = structure_of(module, signature)
    ignored = left_alone(graph_of(module, signature), module, structure, settings.keep, settings.axes)
    together = settings.scope != "local"
    prices = {module.get_submodule(name): cost for name, cost in (costs or {}).items()}
    shapes = _shapes(module, signature)
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
            num_heads=structure.heads,
            in_channel_groups={},  # the defaults are shared by all pruners of a process, and grow
            out_channel_groups={},
            round_to=granularity,
            root_module_types=list(WEIGHTED),
        )
        for _ in range(settings.steps):
            if met(module):
                break
            score = IMPORTANCES[settings.importance].measure(module, calibration)
            pruner.importance = _per_cost(score, prices)
            try:
                pruner.step()
                after = _shapes(module, signature)
            except EdgekdError:
                raise
            except Exception as error:  # whatever a forward raises that finds other widths than it was written for
                first = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise StageError(f"the network does not run with fewer channels: {first}; {_FIXED_WIDTH}") from error
            if after != shapes:  # the batch too: a view to a fixed width takes what is missing from it
                raise StageError(f"pruning changed the outputs from {shapes} to {after}; {_FIXED_WIDTH}")
    return [list(entry) for entry in pruner.pruning_history()]


def _per_cost(score: Score, prices: Mapping[nn.Module, float]) -> Score:
    """Return the importance for each unit of cost; channels of a group that is zero everywhere are worth nothing."""

    def divided(group: Any) -> Tensor | None:
        values = score(group)
        if values is None:
            return None
        price = next((prices[dep.target.module] for dep, _ in group if dep.target.module in prices), 1.0)
        return values.nan_to_num(0.0) / price

    return divided


def _check_finite(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if not parameter.isfinite().all():
            raise InputError(f"the weights {name} hold NaN or infinite values; nothing can be ranked by them")


@torch.no_grad()
def _shapes(module: nn.Module, signature: Signature) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in run_network(module, example_inputs(signature)).items()}
