"""Distillation alone, from Python: a network learns from a teacher and comes back trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from edgekd.errors import InputError
from edgekd.models.signature import Signature, parse_inputs
from edgekd.models.source import Opening
from edgekd.pipeline import run_stages
from edgekd.recipe import DataSettings, Recipe
from edgekd.request import Request, prepare
from edgekd.run import Run
from edgekd.stages.distill.settings import DistillSettings
from edgekd.state import TorchForm
from edgekd.target import explain
from edgekd.teachers.opening import TeacherSource
from edgekd.verbs.plan import check_order


def distill(
    student: str | Path | nn.Module,
    teacher: TeacherSource | Sequence[TeacherSource] | None = None,
    data: Any = None,
    losses: str | Sequence[Any] | None = None,
    *,
    output: str | Path,
    target: str = "generic-x86",
    data_settings: DataSettings | None = None,
    inputs: Sequence[str] = (),
    signature: Signature | None = None,
    trust: Sequence[str] = (),
    factory: str | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    say: Any = lambda message: None,
    **settings: Any,
) -> nn.Module:
    """Train a student towards one or more teachers, and return it; nothing is exported.

    Args:
        student: a network in memory, or a file as for `compress`; it is not changed.
        teacher: networks, files, functions (named arrays -> outputs), or `Teacher` objects; None: the student itself.
        data: as for `compress`; labels are optional.
        losses: names or tables of `edgekd methods`, e.g. `["kl", {"kind": "hint", "weight": 0.5}]`.
        output: run directory; the same call goes on from there.
        target: whose export decides nothing here but whose form a run needs.
        data_settings: how the data are cut.
        inputs: `[NAME:]SHAPE[:DTYPE]` texts, where neither the sidecar nor the archive tells.
        signature: of a network in memory: its inputs and task, e.g. `Signature(inputs=(TensorSpec(name="x",
            shape=("batch", 8)),), task="regression")`; not set: a classifier of the data's arrays.
        trust: packages whose layer classes a pickled network may use.
        factory: `package.module:function` that builds the network for a file of weights.
        seed: of everything random.
        device: `auto`, `cpu` or `cuda`.
        threads: of torch.
        say: is given each line of the log.
        settings: the other settings of the stage distill: epochs, task, optimizer, phases ...

    Returns:
        The trained network, on the CPU and in eval mode.

    Raises:
        EdgekdError: one message that says what is wrong and what to do.
    """
    from pydantic import ValidationError

    if isinstance(losses, str):
        losses = [losses]
    given = {**settings, **({} if losses is None else {"losses": list(losses)})}
    try:
        stage = DistillSettings.model_validate(given)
    except ValidationError as error:
        raise InputError(explain(error)) from error
    recipe = Recipe(name="distill", seed=seed, data=data_settings or DataSettings(), stages=(stage,))
    request = Request(
        student,
        (target,),
        data,
        recipe=recipe,
        output=Path(output),
        opening=Opening(tuple(trust), factory, parse_inputs(inputs), signature),
        teacher=teacher,
        device=device,
        threads=threads,
        say=say,
    )
    prepared = prepare(request)
    (context,) = prepared.contexts
    check_order(prepared.opened.state, recipe, context)
    with Run.open(prepared.directory, say) as run:
        run.describe(prepared.opened.name, prepared.opened.structure, [target])
        state = run_stages(run, prepared, context)[-1].state
    assert isinstance(state.form, TorchForm)
    return state.form.module
