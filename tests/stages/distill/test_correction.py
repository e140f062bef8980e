"""Teachers that are fine-tuned on the labels before anybody learns from them."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.context import Context
from edgekd.data import Dataset
from edgekd.errors import InputError
from edgekd.models.network import learn_outputs
from edgekd.stages.distill import STAGE, DistillSettings
from edgekd.stages.distill.correction import corrected
from edgekd.state import ModelState
from edgekd.teachers.black_box import FunctionTeacher
from edgekd.teachers.live import LiveTeacher

from .networks import CLASSES, N, Net, alive, checked, distilled, random_inputs, start


def begin(folder: Path, teacher: Net, **further: object) -> tuple[ModelState, Context]:
    inputs = random_inputs(5)
    data = Dataset({"x": inputs}, targets=np.eye(5, CLASSES)[inputs.argmax(1)].argmax(1))
    return start(Net("vector", 4), data, "classification", folder, **{"teachers": alive(teacher), **further})


def test_a_copy_of_the_teacher_learns_and_the_teacher_stays(tmp_path: Path) -> None:
    teacher = Net("vector", 16, seed=1)
    before = copy.deepcopy(teacher.state_dict())
    _, context = begin(tmp_path, teacher)
    settings = DistillSettings(teacher_correction=30, batch_size=8, optimizer="adamw", learning_rate=0.1)
    live = {name: make(context.parts.train) for name, make in context.teachers.items()}
    (found,) = corrected(live, settings, context).values()
    assert isinstance(found, LiveTeacher) and found.identity != live["teacher"].identity
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert not found.network.training and not any(one.requires_grad for one in found.network.parameters())
    x = torch.from_numpy(context.parts.train.inputs()["x"])
    targets = torch.from_numpy(context.parts.train.targets)
    with torch.no_grad():
        losses = [torch.nn.functional.cross_entropy(network(x), targets) for network in (teacher, found.network)]
    assert losses[1] < 0.5 * losses[0]


def test_the_student_learns_from_the_corrected_teacher(tmp_path: Path) -> None:
    lines: list[str] = []
    state, context = begin(tmp_path, Net("vector", 16, seed=1), log=lines.append)
    wanted = {"losses": ["kl"], "task": 0}
    plain = distilled(state, context, **wanted)
    first, again = (distilled(state, context, teacher_correction=2, **wanted) for _ in range(2))
    assert lines[1].startswith("correct the teacher teacher: epoch 1/2")
    assert first.notes["loss"] == again.notes["loss"] != plain.notes["loss"]


def test_the_uncompressed_network_is_corrected_where_it_teaches_itself(tmp_path: Path) -> None:
    state, context = begin(tmp_path, Net("vector", 4), teachers={})
    weights = copy.deepcopy(state.torch.module.state_dict())
    assert np.isfinite(distilled(state, context, teacher_correction=1).notes["loss"]).all()
    assert all(torch.equal(weights[name], tensor) for name, tensor in state.torch.module.state_dict().items())


def test_what_cannot_be_corrected_is_refused_before_any_work(tmp_path: Path) -> None:
    state, context = begin(tmp_path, Net("vector", 16))
    function = FunctionTeacher(
        lambda inputs: np.zeros((len(inputs["x"]), CLASSES), np.float32), licence="MIT", source="rules", name="rules"
    )
    with pytest.raises(InputError, match="teacher_correction: the teacher rules is no torch network"):
        checked(state, replace(context, teachers={"rules": lambda part: function}), teacher_correction=1)
    series = Net("series", 4)
    foreign = state.signature.model_copy(
        update={"inputs": tuple(one.model_copy(update={"shape": ("batch", 5, 16)}) for one in state.signature.inputs)}
    )
    other = LiveTeacher("sounds", series, "1", learn_outputs(series.eval(), foreign))
    with pytest.raises(InputError, match="the teacher sounds takes other inputs than the student"):
        checked(state, replace(context, teachers={"sounds": lambda part: other}), teacher_correction=1)
    unlabelled = start(Net("vector", 4), Dataset({"x": random_inputs(5)}), "classification", tmp_path, teachers={})
    with pytest.raises(InputError, match="teacher_correction trains on labels and the data have none"):
        checked(*unlabelled, teacher_correction=1, task=0)


def test_the_plan_names_it(tmp_path: Path) -> None:
    _, context = begin(tmp_path, Net("vector", 16))
    assert STAGE.describe(DistillSettings(teacher_correction=2), context).startswith(
        "fine-tune the teachers for 2 epochs; "
    )
    assert len(context.parts.train) < N
