"""Hybrid search: which mix of depth and widths is best is tried, not guessed.

```
blocks x hidden x heads x mlp ── those near the budget ── at most ten, far apart ── each: cut, short distillation ── best
```

Source: Muralidharan et al., Minitron, 2024, section 3, and 2408.11796: candidates of a parameter budget, a short distillation
each, the best measured one stays. edgekd variant: what a shape costs is interpolated between the 2^axes corners of the
grid (multiply-accumulates and parameters of a transformer are linear in each of its axes), and measured once it is cut.
"""

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import gt, lt
from typing import Any

import torch
from torch import nn

from edgekd import processes
from edgekd.context import Context
from edgekd.errors import BudgetMissed, InputError
from edgekd.evaluate import deciding_metric
from edgekd.models.edits import Edit
from edgekd.models.edits.branches import drop_edit, drop_modules
from edgekd.models.signature import Signature
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.distill.stage import FEWEST, distilled
from edgekd.stages.prune.budget import Budget
from edgekd.stages.prune.depth import influences, order_of, rows_of
from edgekd.stages.prune.groups import Axis, Group, prunable_groups
from edgekd.stages.prune.pruner import prune_to_shares, width_edits
from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.prune.structure import ATTENTION
from edgekd.stages.prune.tried import Shape, Tried
from edgekd.stages.prune.whole_heads import WholeHeads, whole_heads
from edgekd.stages.prune.widths import least_width
from edgekd.state import ModelState, TorchForm
from edgekd.teachers.live import LiveTeacher
from edgekd.training.checkpoint import Checkpoint
from edgekd.training.keeper import Score
from edgekd.training.loop import training_part
from edgekd.training.settings import chosen_device, chosen_precision
from edgekd.training.validation import validation_score

_VALUES = 9  # of an axis at most, evenly spread
_NEAR = 0.9  # of the budget: what is smaller gives more away than it has to
_WIDTHS: tuple[Axis, ...] = ("hidden", "heads", "mlp")


@dataclass(frozen=True)
class _Space:
    """The axes of a network and the shares that may stay of each, descending from 1; blocks in the order in which they go."""

    order: tuple[str, ...]
    blocks: int
    groups: tuple[Group, ...]
    attentions: tuple[WholeHeads, ...]
    values: Mapping[Axis, tuple[float, ...]]

    def gone(self, shape: Shape) -> list[str]:
        """Return the blocks that a shape lacks."""
        share = dict(zip(self.values, shape, strict=True)).get("depth", 1.0)
        return list(self.order[: round(len(self.order) * (1 - share))])

    def shares(self, shape: Shape) -> dict[Axis | None, float]:
        """Return the shares of the widths that a shape cuts."""
        return {axis: one for axis, one in zip(self.values, shape, strict=True) if axis != "depth" and one < 1}

    def sizes(self, shape: Shape) -> dict[str, int]:
        """Return a shape in blocks, channels and heads; of unlike layers those of the first that may be cut."""
        sizes: dict[str, int] = {}
        for axis, share in zip(self.values, shape, strict=True):
            if axis == "depth":
                sizes["blocks"] = self.blocks - len(self.gone(shape))
            else:
                group = next(group for group in self.groups if group.axis == axis)
                sizes[axis] = round(share * group.channels / group.unit)
        return sizes


def check_search(module: nn.Module, signature: Signature, settings: PruneSettings, context: Context) -> None:
    """Refuse a search where there is no transformer, or nothing to distil on.

    Raises:
        InputError: says which.
    """
    if not any(group.axis for group in prunable_groups(module, signature, settings.keep)):
        raise InputError(
            f"search: this network has no axes of a transformer (hidden, heads, mlp; {ATTENTION}); leave search out, "
            "`importance` and `scope` shape other networks"
        )
    if "depth" in settings.axes and not rows_of(module, signature, settings.keep):
        raise InputError("axes: no block of this network can be left out; leave depth out of axes")
    count = len(training_part(context.parts.train))
    if count < FEWEST:
        raise InputError(f"search: {count} samples are left to distil on; give more data, or lower [data] calibration")


def trained_on(settings: PruneSettings, context: Context) -> dict[str, object]:
    """Return what beside data and seed the trainings of a search depend on."""
    device = chosen_device(context.device)
    precision = chosen_precision(_course(settings), device)
    return {"device": device, "precision": precision, "processes": processes.count()}


def searched(
    state: ModelState, settings: PruneSettings, granularity: int, budget: Budget, context: Context
) -> ModelState:
    """Return the best of several shapes of a network within the budget, with the weights of its short distillation.

    Raises:
        BudgetMissed: no shape is within the budget; the message says how close the smallest comes.
    """
    space = _space(state.torch.module, state.signature, settings, granularity, context)
    chosen = _chosen(space, state, settings, granularity, budget, context)
    metric = deciding_metric(context.metric, context.parts.validation)
    score = validation_score(context, {})
    tried = Tried.so_far(Checkpoint(context.checkpoint))
    for number, shape in enumerate(chosen, 1):
        name, sizes = f"shape {number}/{len(chosen)}", space.sizes(shape)
        said = "tried before: " if shape in tried.rows else ""
        if not said:
            _try(tried, shape, name, space, state, settings, granularity, budget, score, context)
        row = tried.rows[shape]
        cost = budget.in_words(row[budget.note])
        judged = f"{metric.name} {row['score']:.4g}{metric.unit}" if "score" in row else "over the budget"
        context.log(f"prune: {name}: {', '.join(f'{n} {axis}' for axis, n in sizes.items())}: {said}{cost}, {judged}")
    table = [tried.rows[shape] for shape in chosen]
    if tried.best is None:
        least = min(row[budget.note] for row in table)
        raise BudgetMissed(f"{budget.missed(least)}; the shapes of the search are all over it; raise {settings.budget}")
    row = tried.rows[tried.best]
    context.log(f"prune: shape {chosen.index(tried.best) + 1} stays, {metric.name} {row['score']:.4g}{metric.unit}")
    module, edits = _cut(space, tried.best, state, settings, granularity, context)
    module.load_state_dict(tried.weights)
    form = TorchForm(state.torch.base, module, (*state.torch.edits, *edits))
    return state.after(
        "prune",
        form,
        {"granularity": granularity, **row, **budget.notes(row[budget.note]), "metric": metric.name, "search": table},
    )


def _try(
    tried: Tried,
    shape: Shape,
    name: str,
    space: _Space,
    state: ModelState,
    settings: PruneSettings,
    granularity: int,
    budget: Budget,
    score: Score,
    context: Context,
) -> None:
    """Cut a shape, and train and judge it where it is within the budget."""
    module, edits = _cut(space, shape, state, settings, granularity, context)
    cost = budget.measure(module)
    row: dict[str, Any] = {**space.sizes(shape), budget.note: round(cost, 4)}
    if cost > budget.limit:
        tried.add_too_large(shape, row)
        return
    form = _distilled(module, edits, state, settings, context, name)
    value, higher = score(form.module)
    tried.add(shape, row | {"score": value}, form.module, gt if higher else lt)


def _space(
    module: nn.Module, signature: Signature, settings: PruneSettings, granularity: int, context: Context
) -> _Space:
    values: dict[Axis, tuple[float, ...]] = {}
    rows = rows_of(module, signature, settings.keep) if settings.cuts_depth else []
    names = [name for row in rows for name in row.removable]
    influence = influences(module, names, context.parts.calibration) if names else {}
    order = order_of(rows, influence, settings.largest_cut)
    for name in sorted(names, key=lambda name: influence[name]):
        context.log(f"prune: block {name}, influence {influence[name]:.4f}")
    if order:
        values["depth"] = tuple(1 - gone / len(order) for gone in range(len(order) + 1))
    fitting = [one for one in prunable_groups(module, signature, settings.keep) if one.fits(granularity)]
    wanted = [axis for axis in _WIDTHS if not settings.axes or axis in settings.axes]
    for axis in wanted:
        grids = [_shares(one, granularity, settings.largest_cut) for one in fitting if one.axis == axis]
        if grids:
            values[axis] = min(grids, key=len)
    values = {axis: _spread(shares) for axis, shares in values.items() if len(shares) > 1}
    if not values:
        raise BudgetMissed(
            f"no shape is smaller in multiples of {granularity}: lower granularity, raise largest_cut, or name other axes"
        )
    attentions = whole_heads(module, signature)
    return _Space(tuple(order), sum(len(row.blocks) for row in rows), tuple(fitting), tuple(attentions), values)


def _shares(group: Group, granularity: int, largest_cut: float) -> tuple[float, ...]:
    width, multiple = group.channels // group.parts, group.multiple(granularity)
    least = least_width(width, largest_cut, multiple)
    return (1.0, *(kept / width for kept in range((width - 1) // multiple * multiple, least - 1, -multiple)))


def _spread(values: Sequence[float]) -> tuple[float, ...]:
    if len(values) <= _VALUES:
        return tuple(values)
    return tuple(values[round(place * (len(values) - 1) / (_VALUES - 1))] for place in range(_VALUES))


def _chosen(
    space: _Space, state: ModelState, settings: PruneSettings, granularity: int, budget: Budget, context: Context
) -> list[Shape]:
    """Return shapes near the budget: the evenest one first, then always the one farthest from those before it."""
    corners = list(itertools.product(*((shares[-1], shares[0]) for shares in space.values.values())))
    costs: dict[Shape, float] = {}
    with context.progress("measure corners", len(corners)) as advance:
        for corner in corners:
            costs[corner] = budget.measure(_cut(space, corner, state, settings, granularity, context)[0])
            if costs[corners[0]] > budget.limit * (1 + 1e-9):
                raise BudgetMissed(
                    f"{budget.missed(costs[corners[0]])} in the smallest shape; raise {settings.budget} or largest_cut, or "
                    "lower granularity"
                )
            advance(1)
    shapes = {shape: interpolated(costs, shape) for shape in itertools.product(*space.values.values())}
    within = [shape for shape, cost in shapes.items() if cost <= budget.limit * (1 + 1e-9)]
    nearest = max(shapes[shape] for shape in within)
    near = [shape for shape in within if shapes[shape] >= _NEAR * nearest]
    context.log(f"prune: {len(shapes):,} shapes, {len(near):,} of them near the budget; {settings.search} are tried")
    return far_apart(near, settings.search)


def interpolated(corners: Mapping[Shape, float], shape: Shape) -> float:
    """Return the cost of a shape that is linear in every axis between the corners of the grid."""
    spans = [sorted(set(ends)) for ends in zip(*corners, strict=True)]
    cost = 0.0
    for corner, value in corners.items():
        weight = 1.0
        for at, share, (low, high) in zip(corner, shape, spans, strict=True):
            upper = (share - low) / (high - low)
            weight *= upper if at == high else 1 - upper
        cost += weight * value
    return cost


def far_apart(shapes: Sequence[Shape], count: int) -> list[Shape]:
    """Return at most so many shapes: the evenest, then always the one that is farthest from its nearest before."""
    chosen = [max(shapes, key=min)]
    while len(chosen) < min(count, len(shapes)):
        chosen.append(max(shapes, key=lambda shape: min(_distance(shape, one) for one in chosen)))
    return chosen


def _distance(one: Shape, other: Shape) -> float:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _cut(
    space: _Space, shape: Shape, state: ModelState, settings: PruneSettings, granularity: int, context: Context
) -> tuple[nn.Module, tuple[Edit, ...]]:
    """Return a copy of the network in a shape, and the edits that made it."""
    torch.manual_seed(context.seed)
    module, edits = copy.deepcopy(state.torch.module).eval(), []
    gone, shares = space.gone(shape), space.shares(shape)
    if gone:
        edits.append(drop_edit(gone, "identity"))
        drop_modules(module, edits[0], state.signature)
    if shares:
        history = prune_to_shares(
            module,
            state.signature,
            settings,
            granularity,
            shares,
            space.groups,
            space.attentions,
            context.parts.calibration,
        )
        edits += width_edits(module, history, space.attentions)
    return module.eval(), tuple(edits)


def _distilled(
    module: nn.Module,
    edits: Sequence[Edit],
    state: ModelState,
    settings: PruneSettings,
    context: Context,
    name: str,
) -> TorchForm:
    """Return a shape after its short distillation from the network that it was cut from."""
    uncut = state.torch
    teacher = LiveTeacher("uncut", copy.deepcopy(uncut.module), uncut.base.digest, state.signature)
    alone = replace(context, teachers={teacher.name: lambda part: teacher}, checkpoint=None)
    start = replace(state, form=TorchForm(uncut.base, module, (*uncut.edits, *edits)))
    form, _ = distilled(start, _course(settings), alone, f"prune: {name}")
    assert isinstance(form, TorchForm)
    return form


def _course(settings: PruneSettings) -> DistillSettings:
    """Return a short distillation on outputs alone, with the optimizer that transformers are trained with."""
    return DistillSettings.model_validate({"epochs": settings.search_epochs, "task": 0, "optimizer": "adamw"})
