import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.committee.mean import Mean

from ..steps import make_step, random


def three(**changes: object) -> Step:
    teachers = {name: Answer({"output": random(3, 4, seed=k)}) for k, name in enumerate("abc")}
    return make_step(teachers["a"], teachers["a"], teachers=teachers, **changes)


def test_it_is_the_mean_of_the_probabilities() -> None:
    step = three()
    expected = torch.stack([answer.output().softmax(1) for answer in step.teachers.values()]).mean(0)
    torch.testing.assert_close(Mean()(step).output().softmax(1), expected)


def test_it_is_the_mean_of_the_logits_where_asked() -> None:
    step = three()
    expected = torch.stack([answer.output() for answer in step.teachers.values()]).mean(0)
    torch.testing.assert_close(Mean(of="logits")(step).output(), expected)


def test_teachers_of_unequal_outputs_are_refused() -> None:
    teachers = {"a": Answer({"output": random(3, 4)}), "b": Answer({"output": random(3, 5)})}
    with pytest.raises(InputError, match=r"'a': \(4,\), 'b': \(5,\)"):
        Mean().prepare(Setup(teachers["a"], teachers, samples=3))
