import copy
from dataclasses import replace

import pytest
from torch import nn

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.metrics import METRICS
from edgekd.models.networks.resnet8 import ResNet8
from edgekd.teachers.live import LiveTeacher
from edgekd.training.fresh import fresh
from edgekd.training.validation import validation_score


def live(network: nn.Module, context: Context) -> LiveTeacher:
    return LiveTeacher("teacher", copy.deepcopy(network).eval(), "teacher", context.signature)


def test_without_labels_the_yardstick_is_what_is_learned_from(context: Context, trained: nn.Module) -> None:
    start = fresh(trained).eval()
    unlabelled = replace(context, metric=METRICS["agreement"], reference=lambda: copy.deepcopy(start))
    towards = validation_score(unlabelled, {"teacher": live(trained, context)})
    assert towards(trained.eval()) == (100.0, True) and towards(start)[0] < 100
    alone = validation_score(unlabelled, {})  # the network itself is the teacher
    assert alone(start)[0] == 100 and alone(trained.eval())[0] < 100


def test_several_teachers_are_met_in_their_middle(context: Context, trained: nn.Module) -> None:
    values = replace(context, metric=METRICS["sqnr"])
    both = {"one": live(trained, context), "two": live(fresh(trained), context)}
    score = validation_score(values, both)
    assert score(trained.eval())[0] < validation_score(values, {"one": both["one"]})(trained.eval())[0] == 200


def test_a_teacher_of_other_outputs_is_no_yardstick(context: Context, trained: nn.Module) -> None:
    other = live(ResNet8((16, 24, 32), num_classes=7, in_channels=1), context)
    score = validation_score(replace(context, metric=METRICS["agreement"]), {"teacher": other})
    with pytest.raises(
        InputError, match="has other outputs than the student; give labelled data, or leave patience out"
    ):
        score(trained.eval())


def test_labels_need_no_yardstick(context: Context, trained: nn.Module) -> None:
    assert validation_score(context, {})(trained.eval())[0] > 50
