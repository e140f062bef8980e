"""The prune stage."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from edgekd.context import Context
from edgekd.errors import BudgetMissed, InputError
from edgekd.models.edits import Edit, branches
from edgekd.models.signature import Signature
from edgekd.recipe import StageSettings
from edgekd.stages.prune.budget import Budget, budget_of
from edgekd.stages.prune.cost import channel_costs
from edgekd.stages.prune.depth import drop_until, influences, order_of, rows_of
from edgekd.stages.prune.fewest import fewest
from edgekd.stages.prune.groups import lost_names, prunable_groups
from edgekd.stages.prune.importance import IMPORTANCES
from edgekd.stages.prune.latency import check_measurable, machine_identity
from edgekd.stages.prune.nearest import nearest
from edgekd.stages.prune.pruner import prune_until, width_edits
from edgekd.stages.prune.remarks import left_uncut, not_whole, why_no_less
from edgekd.stages.prune.search import check_search, searched, trained_on
from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.prune.smallest import smallest
from edgekd.stages.prune.whole_heads import whole_heads
from edgekd.stages.quantize.simulation import prepare
from edgekd.stages.stage import Stage, same_form
from edgekd.state import ModelState, PreparedForm, TorchForm


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
        prepared, _ = prepare(pruned.torch, pruned.signature, state.form.simulation, context)
        return replace(pruned, form=prepared)
    torch.manual_seed(context.seed)
    budget = budget_of(settings, state, context)
    if settings.search:
        return searched(state, settings, granularity(settings, context), budget, context)
    module, edits, remarks = _cut(state, settings, budget, context)
    form = TorchForm(state.torch.base, module, (*state.torch.edits, *edits))
    notes: dict[str, Any] = {
        **budget.notes(budget.measure(module)),
        "granularity": granularity(settings, context),
    }
    gone = [name for edit in edits if edit["kind"] == branches.DROP for name in edit["modules"]]
    return state.after(
        "prune", form, notes | ({"dropped": gone} if gone else {}) | ({"remarks": remarks} if remarks else {})
    )


def _cut(
    state: ModelState, settings: PruneSettings, budget: Budget, context: Context
) -> tuple[nn.Module, tuple[Edit, ...], list[str]]:
    """Return a copy of the network within the budget, the edits that made it, and remarks: blocks go first, then channels."""
    module = copy.deepcopy(state.torch.module).eval()
    signature, multiple = state.signature, granularity(settings, context)
    groups = prunable_groups(module, signature, settings.keep, settings.axes) if settings.cuts_widths else []
    lost = lost_names(module, signature, settings.keep) if settings.cuts_widths else []
    remarks = [*left_uncut(module, groups, multiple, lost), *not_whole(groups)] if settings.cuts_widths else []
    for remark in remarks:
        context.log(f"prune: {remark}")
    least = budget.measure(smallest(module, signature, settings, multiple))
    if least > budget.limit:
        why = why_no_less(module, settings, groups, multiple, lost)
        raise BudgetMissed("; ".join([f"{budget.missed(least)} {why}", *(remarks if groups else [])]))
    edits = _drop(module, signature, settings, budget, context) if settings.cuts_depth else []
    if settings.cuts_widths:
        module, narrowed, coarse = _narrow(module, signature, settings, multiple, budget, context)
        edits, remarks = [*edits, *narrowed], [*remarks, *coarse]
    after = budget.measure(module)
    if after > budget.limit:
        raise BudgetMissed(
            f"{budget.missed(min(least, after))} in the smallest network, and {budget.in_words(after)} when it is cut "
            f"by {settings.importance}; raise {settings.budget} or steps, or choose another importance"
        )
    return module.eval(), tuple(edits), remarks


def _drop(
    module: nn.Module, signature: Signature, settings: PruneSettings, budget: Budget, context: Context
) -> list[Edit]:
    """Drop blocks, in place; where channels go too, the block that would pass the budget stays."""
    rows = rows_of(module, signature, settings.keep)
    names = [name for row in rows for name in row.removable]
    influence = influences(module, names, context.parts.calibration)
    order = order_of(rows, influence, settings.largest_cut)
    with context.progress("drop blocks", len(order) + 1) as advance:

        def met(candidate: nn.Module) -> bool:
            advance(1)
            return budget.met(candidate)

        dropped = drop_until(module, signature, order, met, beyond=not settings.cuts_widths)
    for name in sorted(names, key=lambda name: influence[name]):
        what = "goes" if name in dropped else "stays"
        context.log(f"prune: block {name} {what}, influence {influence[name]:.4f}")
    return [branches.drop_edit(dropped, "identity")] if dropped else []


def _narrow(
    module: nn.Module,
    signature: Signature,
    settings: PruneSettings,
    multiple: int,
    budget: Budget,
    context: Context,
) -> tuple[nn.Module, list[Edit], list[str]]:
    """Return the network without the channels that go, the edits, and a remark where it got much smaller than asked."""
    costs = channel_costs(module, signature, settings, multiple, context) if settings.latency_aware else None
    attentions = whole_heads(module, signature)
    cut = copy.deepcopy(module)
    with context.progress("prune", settings.steps) as advance:

        def met(candidate: nn.Module) -> bool:
            advance(1)
            return budget.met(candidate)

        history = prune_until(cut, signature, settings, multiple, met, context.parts.calibration, costs, attentions)
    if not history or not budget.met(cut):
        return cut, width_edits(cut, history, attentions), []
    found = fewest(module, signature, history, attentions, budget)
    context.log(f"prune: {found.in_words(len(history), budget)}")
    if found.is_far(budget) and not budget.timed:
        nearer = nearest(found, module, signature, settings, multiple, attentions, budget, context.parts.calibration)
        if nearer is not found:
            context.log(
                f"prune: in place of the last one, in multiples of {multiple}: {budget.in_words(nearer.after)} left"
            )
        found = nearer
    said = found.overshoot(budget, multiple)
    if said is not None:
        context.log(f"prune: {said}")
    return found.network, width_edits(found.network, found.history, attentions), [said] if said is not None else []


def _depends_on(settings: StageSettings, context: Context) -> dict[str, Any]:
    assert isinstance(settings, PruneSettings)
    uses: dict[str, Any] = {
        "granularity": granularity(settings, context),
        "data": IMPORTANCES[settings.importance].data or settings.cuts_depth or settings.search > 0,
    }
    if settings.search:
        uses |= trained_on(settings, context)
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
    if not isinstance(state.form, TorchForm):
        return
    module = state.form.module
    if settings.importance == "batch-norm" and not any(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules()
    ):
        raise InputError("the batch-norm importance needs batch norms and the network has none; use magnitude")
    prunable_groups(module, state.signature, settings.keep, settings.axes)
    if settings.search:
        check_search(module, state.signature, settings, context)
    elif settings.cuts_depth and not rows_of(module, state.signature, settings.keep):
        raise InputError(
            "axes: this network has no depth that may be cut: no container has three blocks of one class in a row of which one "
            "in between adds to what it is given in the same shape"
        )


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, PruneSettings)
    value = getattr(settings, settings.budget)
    to = f"{value:g} ms" if settings.budget == "to_ms" else f"{value:.0%} of the {settings.budget.removeprefix('to_')}"
    if settings.search:
        return (
            f"try {settings.search} shapes of {to}, ranked by {settings.importance}, in multiples of "
            f"{granularity(settings, context)}; distil each for {settings.search_epochs} epochs and keep the best by validation"
        )
    per = " per millisecond" if settings.latency_aware else ""
    widths = [axis for axis in settings.axes if axis != "depth"]
    only = f" of {', '.join(widths)}" if widths else ""
    parts = ["drop blocks by influence"] if settings.cuts_depth else []
    if settings.cuts_widths:
        parts.append(f"remove channels{only} by {settings.importance}{per}")
    multiples = f", in multiples of {granularity(settings, context)}" if settings.cuts_widths else ""
    return f"{' and '.join(parts)} to {to}{multiples}"


def _searches(settings: StageSettings) -> bool:
    assert isinstance(settings, PruneSettings)
    return settings.search > 0


STAGE = Stage(
    PruneSettings, run, frozenset({"torch", "prepared"}), same_form, _searches, _depends_on, _check, _describe
)
