"""The prune stage."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from edgekd.context import Context
from edgekd.errors import BudgetMissed, InputError
from edgekd.models.edits import prune_edit
from edgekd.models.network import count_macs, count_parameters, run_network
from edgekd.recipe import StageSettings
from edgekd.stages.prune.latency import check_measurable, latency_of, machine_identity
from edgekd.stages.prune.pruner import check_names, prune_until
from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.quantize.simulation import prepare
from edgekd.stages.stage import Stage, same_form
from edgekd.state import ModelState, PreparedForm, TorchForm
from edgekd.training.loop import training_part
from edgekd.training.task_loss import task_loss

_BATCH = 64


def granularity(settings: PruneSettings, context: Context) -> int:
    """Return the multiple to which channel counts are rounded."""
    return settings.granularity or context.target.channels.granularity


def run(state: ModelState, settings: StageSettings, context: Context) -> ModelState:
    """Remove channels until the budget is met.

    The weights of a fake-quantized graph are copied back, pruned, and prepared again as they were.

    Raises:
        BudgetMissed: as much as may go is gone and the budget is not met; the message says how close it came.
        InputError: the network cannot be traced.
    """
    assert isinstance(settings, PruneSettings)
    if isinstance(state.form, PreparedForm):
        pruned = run(state.floating(), settings, context)
        form, _ = prepare(pruned.torch, pruned.signature, state.form.simulation, context)
        return replace(pruned, form=form)
    torch.manual_seed(context.seed)
    module = copy.deepcopy(state.torch.module).eval()
    name, limit, measure = _budget(settings, state, context)
    before = measure(module)
    with context.progress("prune", settings.steps) as advance:

        def met(candidate: nn.Module) -> bool:
            advance(1)
            return measure(candidate) <= limit * before

        history = prune_until(
            module, state.signature, settings, granularity(settings, context), met, _gradients(state, settings, context)
        )
    after = measure(module)
    if not history and after > limit * before:
        raise BudgetMissed(
            f"pruning cannot reach {100 * limit:g}% of the {name}: no layer of this network can lose channels in multiples of "
            f"{granularity(settings, context)} (recurrent layers are not pruned); lower granularity or leave pruning out"
        )
    if after > limit * before:
        raise BudgetMissed(
            f"pruning cannot reach {100 * limit:g}% of the {name}: {after / before:.1%} is left when every layer that may be "
            f"cut has lost what it may; raise {name_of(settings)}, largest_cut, or lower granularity"
        )
    edits = (*state.torch.edits, prune_edit(history))
    notes = {f"{name}_share": round(after / before, 4), "granularity": granularity(settings, context)}
    return state.after("prune", TorchForm(state.torch.base, module.eval(), edits), notes)


def name_of(settings: PruneSettings) -> str:
    """Return the name of the budget that is set."""
    return next(name for name in ("to_macs", "to_parameters", "to_latency") if getattr(settings, name) is not None)


def _budget(
    settings: PruneSettings, state: ModelState, context: Context
) -> tuple[str, float, Callable[[nn.Module], float]]:
    if settings.to_parameters is not None:
        return "parameters", settings.to_parameters, count_parameters
    if settings.to_latency is not None:
        return "latency", settings.to_latency, latency_of(state.torch.module, state.signature, context)
    assert settings.to_macs is not None
    return "macs", settings.to_macs, lambda module: count_macs(module, state.signature)


def _gradients(state: ModelState, settings: PruneSettings, context: Context) -> Callable[[nn.Module], None] | None:
    """Return a function that fills gradients of the loss on calibration samples, for the Taylor importance."""
    if settings.importance != "taylor":
        return None
    part = training_part(context.parts.calibration)
    task = state.signature.task

    def fill(module: nn.Module) -> None:
        module.zero_grad()
        for start in range(0, len(part), _BATCH):
            positions = slice(start, start + _BATCH)
            inputs = {name: torch.from_numpy(array) for name, array in part.inputs(positions).items()}
            targets = part.targets_at(positions)
            labels = None if targets is None else torch.from_numpy(targets)
            output = next(iter(run_network(module, inputs).values()))
            (task_loss(task, output, labels, inputs).mean() * len(part.indices[positions]) / len(part)).backward()

    return fill


def _depends_on(settings: StageSettings, context: Context) -> dict[str, Any]:
    assert isinstance(settings, PruneSettings)
    uses: dict[str, Any] = {"granularity": granularity(settings, context), "data": settings.importance == "taylor"}
    return uses if settings.to_latency is None else {**uses, "machine": machine_identity()}


def _check(settings: StageSettings, state: ModelState, context: Context) -> None:
    """Refuse names that are no module, a latency budget that cannot be measured here, and Taylor without targets."""
    assert isinstance(settings, PruneSettings)
    if settings.to_latency is not None:
        check_measurable(context)
    labelled = context.parts.calibration.targets is not None or state.signature.task == "anomaly"
    if settings.importance == "taylor" and not labelled:
        raise InputError("the taylor importance needs labels and the data have none; use magnitude")
    if isinstance(state.form, TorchForm):
        check_names(state.form.module, settings.keep)


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, PruneSettings)
    name = name_of(settings)
    return (
        f"remove channels by {settings.importance} to {getattr(settings, name):.0%} of the {name.removeprefix('to_')}, "
        f"in multiples of {granularity(settings, context)}"
    )


STAGE = Stage(PruneSettings, run, frozenset({"torch", "prepared"}), same_form, False, _depends_on, _check, _describe)
