"""The mask stage."""

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.recipe import StageSettings
from edgekd.stages import distill
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.distill.stage import distilled, has_targets
from edgekd.stages.mask.settings import MaskSettings
from edgekd.stages.mask.weights import Weight, fitting, maskable
from edgekd.stages.mask.zeros import leaves_some, set_zeros
from edgekd.stages.quantize.simulation import prepare
from edgekd.stages.stage import Stage, same_form
from edgekd.state import ModelState, PreparedForm, TorchForm
from edgekd.training.loop import BeforeStep
from edgekd.training.settings import TrainingSettings


def run(state: ModelState, settings: StageSettings, context: Context) -> ModelState:
    """Set the least weights to zero, at once or while it is trained.

    There is no list of masked weights: an exact zero is one. Trainings hold it, and so does the rounding to integers.

    Raises:
        InputError: no weight can be masked, or the pattern fits none.
        StageError: training diverged.
    """
    assert isinstance(settings, MaskSettings)
    before = state.floating().torch.module
    weights, unfit = _chosen(before, settings)

    def clear(module: nn.Module, share: float) -> None:
        set_zeros(_tensors(module, weights), settings, share)

    notes: dict[str, Any] = {}
    form: Any
    if settings.epochs:
        course = _course(settings, labelled=has_targets(state, context))
        ramp: BeforeStep = lambda module, progress: clear(module, settings.zeros_at(progress))  # noqa: E731
        form, history = distilled(state, course, context, "mask", ramp)
        clear(form.module, settings.zeros)  # an average of the weights has fewer zeros than they have
        notes |= history.to_notes()
    else:
        form = copy.deepcopy(state.floating().torch)
        clear(form.module, settings.zeros)
        if isinstance(state.form, PreparedForm):
            form, _ = prepare(form, state.signature, state.form.simulation, context)
    zeros_in = {one.name for one in weights if (form.module.get_parameter(one.name) == 0).any()}
    dense = _without_zeros(before, zeros_in, weights, unfit, settings)
    for why, names in dense.items():
        context.log(f"mask: {', '.join(names)} stay dense: {why}")
    masked = [tensor for tensor, _ in _tensors(form.module, weights)]
    zeros, count = sum(int((one == 0).sum()) for one in masked), sum(one.numel() for one in masked)
    notes |= {
        "zeros": zeros,
        "zeros_share": round(zeros / count, 6),
        "masked": [one.name for one in weights],
        "dense": [name for names in dense.values() for name in names],
    }
    return state.after("mask", form, notes)


def _chosen(module: nn.Module, settings: MaskSettings) -> tuple[list[Weight], list[str]]:
    """Return the weights to mask, and the names of those that the pattern does not fit."""
    weights, dense = fitting(maskable(module, settings.keep), settings.group)
    return weights, [one.name for one in dense]


def _without_zeros(
    module: nn.Module, zeros_in: set[str], weights: Sequence[Weight], unfit: Sequence[str], settings: MaskSettings
) -> dict[str, list[str]]:
    """Return the parameters that have no zeros, by the reason; of biases and norms, which are single rows, nobody asks."""
    kept = tuple(f"{name}." for name in settings.keep)
    found: dict[str, list[str]] = {}
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2 or name in zeros_in:
            continue
        if name.startswith(kept):
            why = "keep names them"
        elif name in unfit and settings.group is not None:
            why = f"their inputs are no multiple of {settings.group[1]}"
        elif any(name == one.name for one in weights):
            why = "the least weights are all in others"
        else:
            why = "only weights of convolutions, linear and recurrent layers are masked"
        found.setdefault(why, []).append(name)
    return found


def _tensors(module: nn.Module, weights: Sequence[Weight]) -> list[tuple[Tensor, int]]:
    return [(module.get_parameter(one.name), one.axis) for one in weights]


def _course(settings: MaskSettings, *, labelled: bool) -> DistillSettings:
    """Return how the network is trained meanwhile: on the labels, without any towards its teacher, else itself before."""
    how = {name: getattr(settings, name) for name in TrainingSettings.model_fields}
    return DistillSettings.model_validate(how | ({"task": 1.0, "losses": ()} if labelled else {}))


def _trains(settings: StageSettings) -> bool:
    assert isinstance(settings, MaskSettings)
    return settings.epochs > 0


def _depends_on(settings: StageSettings, context: Context) -> dict[str, object]:
    assert isinstance(settings, MaskSettings)
    return distill.STAGE.depends_on(_course(settings, labelled=False), context) if settings.epochs else {}


def _check(settings: StageSettings, state: ModelState, context: Context) -> None:
    """Refuse, before any work, names that are no module, patterns that fit nowhere, and what cannot be trained."""
    assert isinstance(settings, MaskSettings)
    if isinstance(state.form, TorchForm):
        weights, _ = _chosen(state.form.module, settings)
        sizes = [len(state.form.module.get_parameter(one.name).flatten()) for one in weights]
        if settings.group is None and not leaves_some(sizes, settings):
            raise InputError(f"mask: sparsity {settings.zeros:g} leaves a layer without a weight; lower it")
    if settings.epochs:
        distill.STAGE.check(_course(settings, labelled=has_targets(state, context)), state, context)


def _describe(settings: StageSettings, context: Context) -> str:
    assert isinstance(settings, MaskSettings)
    which = settings.pattern if settings.group is not None else f"{settings.scope} {settings.importance}"
    how = f"during {settings.epochs} epochs" if settings.epochs else "at once"
    return f"set {settings.zeros:.4g} of the weights to zero ({which}), {how}; {_gain(settings, context)}"


def _gain(settings: MaskSettings, context: Context) -> str:
    """Return what zeros do for the speed on the target's runtime."""
    if context.runtime_name == "tensorrt" and settings.pattern == "2:4":
        return "TensorRT may run 2:4 layers on the sparse tensor cores of Ampere and later, if its builder is told to"
    return f"{context.runtime_name} multiplies zeros too, so this makes nothing faster: prune does"


STAGE = Stage(MaskSettings, run, frozenset({"torch", "prepared"}), same_form, _trains, _depends_on, _check, _describe)
