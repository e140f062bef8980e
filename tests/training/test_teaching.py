import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.losses import COMMITTEES
from edgekd.models.networks.resnet8 import ResNet8
from edgekd.teachers.black_box import FunctionTeacher
from edgekd.teachers.live import LiveTeacher
from edgekd.training.fresh import fresh
from edgekd.training.history import History

from .conftest import SETTINGS, phase

Teach = Callable[..., History]


def black_box(arrays: dict[str, Any]) -> Any:
    return np.tile(np.arange(10, dtype=np.float32), (len(arrays["image"]), 1))


def live(name: str, network: nn.Module, context: Context) -> LiveTeacher:
    return LiveTeacher(name, copy.deepcopy(network), name, context.signature)


def test_a_function_is_a_teacher_like_any_other(context: Context, trained: nn.Module, teach: Teach) -> None:
    function = FunctionTeacher(black_box, licence="MIT", source="a test")
    history = teach(
        fresh(trained), phase("kl"), teachers={"box": function}, settings=SETTINGS.model_copy(update={"epochs": 3})
    )
    assert history.loss[-1] < history.loss[0]


def test_a_function_computes_in_its_own_precision(trained: nn.Module, teach: Teach) -> None:
    network, seen = copy.deepcopy(trained).eval(), set()

    @torch.no_grad()
    def answer(arrays: dict[str, Any]) -> Any:
        found = network(torch.from_numpy(arrays["image"]))
        seen.add(found.dtype)
        return found.numpy()

    function = FunctionTeacher(answer, licence="MIT", source="a test", version="1")
    teach(fresh(trained), phase("kl"), teachers={"box": function}, settings=SETTINGS.model_copy(
        update={"precision": "bfloat16", "epochs": 1}))  # fmt: skip
    assert seen == {torch.float32}


def test_a_black_box_has_no_taps(trained: nn.Module, teach: Teach) -> None:
    function = FunctionTeacher(black_box, licence="MIT", source="a test")
    with pytest.raises(InputError, match="needs a teacher that shows its features"):
        teach(fresh(trained), phase("hint"), teachers={"box": function})


def test_a_tap_that_neither_has_names_the_nearest(trained: nn.Module, teach: Teach) -> None:
    first = next(name for name, _ in trained.named_children())
    with pytest.raises(InputError, match="no module `nowhere`; nearest"):
        teach(fresh(trained), phase({"kind": "hint", "taps": {first: "nowhere"}}), teacher=trained)
    with pytest.raises(InputError, match="no module `nowhere`; nearest"):
        teach(fresh(trained), phase({"kind": "hint", "taps": {"nowhere": first}}), teacher=trained)


def test_teachers_of_other_classes_are_refused(trained: nn.Module, teach: Teach) -> None:
    other = ResNet8((16, 24, 32), num_classes=7, in_channels=1)
    with pytest.raises(
        InputError, match=r"outputs of the teacher teacher have the shape \(7,\), the student's \(10,\)"
    ):
        teach(fresh(trained), phase("kl"), teacher=other)
    history = teach(fresh(trained), phase("hint"), teacher=other)  # features alone may be compared
    assert history.loss[0] > 0


def test_an_output_that_is_not_there_is_refused(trained: nn.Module, teach: Teach) -> None:
    with pytest.raises(InputError, match="no output 'boxes' in both"):
        teach(fresh(trained), phase({"kind": "kl", "output": "boxes"}), teacher=trained)


def test_without_a_teacher_nothing_can_be_distilled(trained: nn.Module, teach: Teach) -> None:
    with pytest.raises(InputError, match="needs a teacher; give --teacher"):
        teach(fresh(trained), phase("kl"))


def test_features_alone_do_not_run_the_whole_teacher(context: Context, trained: nn.Module, teach: Teach) -> None:
    first = next(name for name, _ in trained.named_children())
    teacher = live("big", trained, context)
    history = teach(fresh(trained), phase({"kind": "hint", "taps": {first: first}}), teachers={"big": teacher})
    cost = history.teachers["big"]
    assert cost["share"] < 0.5 and cost["samples"] >= len(context.parts.train) // 64 * 64


def test_a_committee_of_two_answers_as_one(context: Context, trained: nn.Module, teach: Teach) -> None:
    torch.manual_seed(1)
    both = {"a": live("a", trained, context), "b": live("b", fresh(trained), context)}
    history = teach(fresh(trained), phase("kl", committee="mean"), teachers=both)
    assert set(history.teachers) == {"a", "b"} and history.teachers["a"]["samples"] == history.teachers["b"]["samples"]
    tap = next(name for name, _ in trained.named_children())
    named = phase({"kind": "hint", "taps": {tap: f"b/{tap}"}})
    teachers = {"a": live("a", trained, context), "b": live("b", fresh(trained), context)}
    history = teach(fresh(trained), named, teachers=teachers)
    assert history.teachers["a"]["macs"] < history.teachers["b"]["macs"]


def test_unpaired_teachers_see_their_own_data(context: Context, trained: nn.Module, teach: Teach) -> None:
    own = replace(context.parts.calibration)
    seen: list[int] = []

    class Watching(LiveTeacher):
        def answer(self, inputs: Any, **given: Any) -> Any:
            seen.append(len(inputs["image"]))
            assert given["sample_ids"] is None
            return super().answer(inputs, **given)

    teacher = Watching("big", copy.deepcopy(trained), "0", context.signature)
    history = teach(fresh(trained), phase("unpaired-alignment", task=1.0), teachers={"big": teacher}, teacher_part=own)
    assert np.isfinite(history.loss).all() and seen


def test_a_committee_that_learns_of_samples_needs_teachers_that_see_them(
    context: Context, trained: nn.Module, teach: Teach
) -> None:
    both = {"a": live("a", trained, context), "b": live("b", fresh(trained), context)}
    with pytest.raises(InputError, match="learned-importance learns which teachers a sample needs"):
        teach(
            fresh(trained), phase("kl", committee="learned-importance"), teachers=both, teacher_part=context.parts.train
        )


def test_a_teacher_that_is_asked_for_no_sample_answers_zeros(
    context: Context, trained: nn.Module, teach: Teach
) -> None:
    """The others go on; its outputs are not missing to whoever compares. Where its features are learned, it is run on all."""

    class OnlyA(COMMITTEES["mean"]):  # type: ignore[misc]
        kind: str = "test-only-a"

        def wanted(self, sample_ids: torch.Tensor, memory: Any) -> dict[str, torch.Tensor]:
            return {
                "a": torch.ones_like(sample_ids, dtype=torch.bool),
                "b": torch.zeros_like(sample_ids, dtype=torch.bool),
            }

    COMMITTEES.pop("test-only-a")
    tap = next(name for name, _ in trained.named_children())
    both = {"a": live("a", trained, context), "b": live("b", fresh(trained), context)}
    for owner in "ab":
        losses = ("kl", {"kind": "hint", "taps": {tap: f"{owner}/{tap}"}})
        history = teach(fresh(trained), phase(*losses, committee=OnlyA()), teachers=both)
        assert np.isfinite(history.loss).all() and history.teachers["a"]["samples"] > 100
        assert (history.teachers["b"]["samples"] == 2) == (owner == "a")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_visual_switch_runs_in_either_precision(trained: nn.Module, teach: Teach, precision: str) -> None:
    (name, _) = list(trained.named_children())[-2]
    student, settings = fresh(trained), SETTINGS.model_copy(update={"precision": precision, "epochs": 2})
    switch = {"kind": "visual-switch", "tokens": f"{name}", "into": f"{name}"}
    history = teach(student, phase(switch), teacher=trained, settings=settings)
    assert history.loss[-1] < history.loss[0]
