"""The prune stage."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from edgekd.context import Context
from edgekd.errors import BudgetMissed, InputError
from edgekd.models.edits import prune_edit
from edgekd.models.network import count_macs, count_parameters
from edgekd.recipe import StageSettings
from edgekd.stages.prune.cost import channel_costs
from edgekd.stages.prune.groups import Group, prunable_groups, tied_names
from edgekd.stages.prune.importance import IMPORTANCES
from edgekd.stages.prune.latency import check_measurable, machine_identity, milliseconds_of, share_of
from edgekd.stages.prune.pruner import prune_until
from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.quantize.simulation import prepare
from edgekd.stages.stage import Stage, same_form
from edgekd.state import ModelState, PreparedForm, TorchForm

_SHOWN = 5  # names in a message


@dataclass(frozen=True)
class _Budget:
    """What `measure` may give at most: a share of the uncut network's, or milliseconds."""

    name: str
    limit: float
    measure: Callable[[nn.Module], float]

    @property
    def note(self) -> str:
        return "latency_ms" if self.name == "ms" else f"{self.name}_share"

    def missed(self, after: float) -> str:
        """Return what was asked for and what is left."""
        if self.name == "ms":
            return f"pruning cannot reach {self.limit:g} ms: {after:.3g} ms is left"
        return f"pruning cannot reach {100 * self.limit:g}% of the {self.name}: {after:.1%} is left"


def granularity(settings: PruneSettings, context: Context) -> int:
    """Return the multiple to which channel counts are rounded."""
    return settings.granularity or context.target.channels.granularity


def run(state: ModelState, settings: StageSettings, context: Context) -> ModelState:
    """Remove channels until the budget is met.

    The weights of a fake-quantized graph are copied back, pruned, and prepared again as they were.

    Raises:
        BudgetMissed: as much as may go is gone and the budget is not met; the message says how close it came.
        InputError: the network cannot be traced, or its weights or activations are not finite.
    """
    assert isinstance(settings, PruneSettings)
    if isinstance(state.form, PreparedForm):
        pruned = run(state.floating(), settings, context)
        form, _ = prepare(pruned.torch, pruned.signature, state.form.simulation, context)
        return replace(pruned, form=form)
    torch.manual_seed(context.seed)
    module = copy.deepcopy(state.torch.module).eval()
    multiple = granularity(settings, context)
    remarks = _uncut(module, prunable_groups(module, state.signature, settings.keep, settings.axes), multiple)
    for remark in remarks:
        context.log(f"prune: {remark}")
    budget = _budget(settings, state, context)
    costs = channel_costs(module, state.signature, settings, multiple, context) if settings.latency_aware else None
    with context.progress("prune", settings.steps) as advance:

        def met(candidate: nn.Module) -> bool:
            advance(1)
            return budget.measure(candidate) <= budget.limit

        history = prune_until(module, state.signature, settings, multiple, met, context.parts.calibration, costs)
    after = budget.measure(module)
    if after > budget.limit:
        why = (
            f"when every layer that may be cut has lost what it may; raise {settings.budget}, largest_cut, or lower granularity"
            if history
            else f"because no layer of this network can lose channels in multiples of {multiple} (recurrent layers are not "
            "pruned); lower granularity or leave pruning out"
        )
        raise BudgetMissed("; ".join([f"{budget.missed(after)} {why}", *remarks]))
    edits = (*state.torch.edits, prune_edit(history))
    notes = {budget.note: round(after, 4), "granularity": multiple}
    return state.after("prune", TorchForm(state.torch.base, module.eval(), edits), notes)


def _budget(settings: PruneSettings, state: ModelState, context: Context) -> _Budget:
    name = settings.budget.removeprefix("to_")
    limit = getattr(settings, settings.budget)
    if name == "latency":
        return _Budget(name, limit, share_of(state.torch.module, state.signature, context))
    if name == "ms":
        return _Budget(name, limit, milliseconds_of(state.torch.module, state.signature, context))

    def count(module: nn.Module) -> int:
        return count_parameters(module) if name == "parameters" else count_macs(module, state.signature)

    whole = count(state.torch.module)
    return _Budget(name, limit, lambda module: count(module) / whole)


def _uncut(module: nn.Module, groups: Sequence[Group], multiple: int) -> list[str]:
    """Return what a person should know of layers that nothing will be cut of."""
    remarks = []
    tied = tied_names(module)
    if tied:
        remarks.append(f"{', '.join(tied)} hold one and the same weights: what would change them is left as it is")
    small = [f"{group.root} ({_width(group)})" for group in groups if not group.fits(multiple)]
    if small:
        more = f" and {len(small) - _SHOWN} more" if len(small) > _SHOWN else ""
        remarks.append(
            f"multiples of {multiple} leave {len(small)} of {len(groups)} groups uncut: {', '.join(small[:_SHOWN])}{more}; "
            "a lower granularity would cut them"
        )
    return remarks


def _width(group: Group) -> str:
    return (
        f"{group.channels} channels"
        if group.parts == 1
        else f"{group.parts} x {group.channels // group.parts} channels"
    )


def _depends_on(settings: StageSettings, context: Context) -> dict[str, Any]:
    assert isinstance(settings, PruneSettings)
    uses: dict[str, Any] = {
        "granularity": granularity(settings, context),
        "data": IMPORTANCES[settings.importance].data,
    }
    return {**uses, "machine": machine_identity()} if settings.measured else uses


def _check(settings: StageSettings, state: ModelState, context: Context) -> None:
    """Refuse names and axes that are not there, what cannot be measured here, and gradients of a loss without targets."""
    assert isinstance(settings, PruneSettings)
    for name in settings.measured:
        check_measurable(name, context)
    labelled = context.parts.calibration.targets is not None or state.signature.task == "anomaly"
    if IMPORTANCES[settings.importance].labels and not labelled:
        raise InputError(
            f"the {settings.importance} importance needs labels and the data have none; use magnitude or activation"
        )
    if isinstance(state.form, TorchForm):
        prunable_groups(state.form.module, state.signature, settings.keep, settings.axes)


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, PruneSettings)
    value = getattr(settings, settings.budget)
    to = f"{value:g} ms" if settings.budget == "to_ms" else f"{value:.0%} of the {settings.budget.removeprefix('to_')}"
    per = " per millisecond" if settings.latency_aware else ""
    only = f" of {', '.join(settings.axes)}" if settings.axes else ""
    return (
        f"remove channels{only} by {settings.importance}{per} to {to}, in multiples of {granularity(settings, context)}"
    )


STAGE = Stage(PruneSettings, run, frozenset({"torch", "prepared"}), same_form, False, _depends_on, _check, _describe)
