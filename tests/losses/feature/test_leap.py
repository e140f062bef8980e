import pytest
import torch
from pydantic import ValidationError

from edgekd.errors import InputError
from edgekd.losses import LOSSES
from edgekd.losses.feature.leap import Leap

from ..steps import Answer, make_setup, make_step, memory_of, random

BLOCKS = ("b.0", "b.1")


def answers(width: int = 6) -> tuple[Answer, Answer]:
    student = Answer({}, {"a": random(3, 5, 4)})
    return student, Answer({}, {block: random(3, 5, width, seed=number + 1) for number, block in enumerate(BLOCKS)})


def test_patches_and_class_token_have_projectors_of_their_own() -> None:
    student, teacher = answers()
    loss = Leap(student="a", blocks=BLOCKS)
    memory = memory_of(loss, student, teacher)
    made, mine, yours = memory.pairs["a~b/0"], student.features["a"], teacher.features["b.0"]
    patches = (made["patches"](mine[:, 1:]) - yours[:, 1:]).square().mean((1, 2))
    token = (made["token"](mine[:, 0]) - yours[:, 0]).square().mean(1)
    torch.testing.assert_close(loss(make_step(student, teacher), memory), patches + 0.05 * token)
    loss.end_epoch(memory, 0)
    assert loss.teacher_taps(memory) == ("b.0",) and loss.all_teacher_taps() == BLOCKS


def test_without_a_class_token_all_are_patches() -> None:
    student, teacher = answers(width=4)
    loss = Leap(student="a", blocks=BLOCKS, cls=0)
    expected = (student.features["a"] - teacher.features["b.0"]).square().mean((1, 2))
    torch.testing.assert_close(loss(make_step(student, teacher), memory_of(loss, student, teacher)), expected)


def test_it_goes_through_the_blocks_and_survives_saving_there() -> None:
    student, teacher = answers()
    loss = LOSSES["leap"].model_validate({"student": "a", "blocks": list(BLOCKS), "max_epochs": 1})
    memory, other = memory_of(loss, student, teacher), memory_of(loss, student, teacher)
    first = loss(make_step(student, teacher), memory)
    loss.end_epoch(memory, 0)
    assert loss.teacher_taps(memory) == ("b.1",)
    other.load_state_dict(memory.state_dict())
    second = loss(make_step(student, teacher), memory)
    assert not torch.equal(first, second)
    assert torch.equal(second, loss(make_step(student, teacher), other))


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ValidationError, match="leave taps and layers out"):
        Leap(student="a", blocks=BLOCKS, taps={"x": "y"})
    student = Answer({}, {"a": random(3, 4)})
    with pytest.raises(InputError, match="give tokens"):
        Leap(student="a", blocks=("b",)).prepare(make_setup(student, Answer({}, {"b": random(3, 4)})))
