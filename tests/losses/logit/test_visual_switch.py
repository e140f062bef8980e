import pytest
import torch
from torch import nn

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup
from edgekd.losses.logit.dbild import dbild
from edgekd.losses.logit.visual_switch import VisualSwitch

from ..steps import make_step, random

LOSS = VisualSwitch(tokens="projector", into="vision.projector")


def make_setup(student: tuple[int, ...], teacher: tuple[int, ...]) -> Setup:
    mine = Answer({"output": torch.zeros(2, 5, 7)}, {"projector": torch.zeros(student)})
    yours = Answer({"output": torch.zeros(2, 5, 7)}, {"vision.projector": torch.zeros(teacher)})
    return Setup(mine, {"teacher": yours}, samples=2)


def test_it_is_half_of_either_answer() -> None:
    own, teacher, switched = (random(2, 5, 7, seed=seed) for seed in range(3))
    step = make_step(Answer({"output": own}), Answer({"output": teacher}, {"switch": switched}), class_axis=-1)
    expected = (dbild(own, teacher, 4) + dbild(switched, teacher, 4)) / 2
    loss = VisualSwitch.model_validate({"tokens": "a", "into": "b", "k": 4})
    torch.testing.assert_close(loss(step), expected)


def test_it_vanishes_where_all_three_answers_are_equal() -> None:
    logits = random(2, 5, 7)
    step = make_step(Answer({"output": logits}), Answer({"output": logits}, {"switch": logits}), class_axis=-1)
    assert LOSS(step).abs().max() < 1e-9


def test_the_gradient_passes_the_teacher_to_the_student_s_tokens() -> None:
    """The second run of the teacher, as the training makes it, with a linear layer for the language model."""
    language, tokens = nn.Linear(6, 7).double(), random(2, 5, 4).requires_grad_()
    memory = LOSS.prepare(make_setup((2, 5, 4), (2, 5, 6)))
    assert memory is not None
    switched = language(memory.double().adapt(tokens))
    teacher = random(2, 5, 7, seed=1).requires_grad_()
    step = make_step(
        Answer({"output": random(2, 5, 7)}), Answer({"output": teacher}, {"switch": switched}), class_axis=-1
    )
    LOSS(step, memory).mean().backward()
    assert tokens.grad is not None and tokens.grad.abs().max() > 0
    assert all(parameter.grad is not None for parameter in memory.parameters())
    assert teacher.grad is None


def test_the_adaptor_is_there_only_for_another_width() -> None:
    same, other = LOSS.prepare(make_setup((2, 5, 4), (2, 5, 4))), LOSS.prepare(make_setup((2, 5, 4), (2, 5, 6)))
    assert same is not None and other is not None
    assert not list(same.parameters())
    assert [tuple(parameter.shape) for parameter in other.parameters()] == [(6, 4), (6,)]


def test_another_number_of_tokens_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(2, 5, 4\), the teacher's \(2, 9, 4\)"):
        LOSS.prepare(make_setup((2, 5, 4), (2, 9, 4)))


def test_it_names_what_the_training_switches() -> None:
    assert (LOSS.switch_from, LOSS.switch_into) == ("projector", "vision.projector")
    assert LOSS.student_taps() == ("projector",)
    assert LOSS.teacher_taps() == ("switch", "vision.projector")
    assert LOSS.teacher_taps(nn.Module()) == ("switch",)
