import torch
from torch.nn import functional

from edgekd.losses.logit.hard_label import hard_label

from ..steps import random


def test_it_is_torch_s_cross_entropy_to_the_decision() -> None:
    student, teacher = random(2, 5, 3, 3), random(2, 5, 3, 3, seed=1)
    expected = functional.cross_entropy(student, teacher.argmax(1), reduction="none")
    torch.testing.assert_close(hard_label(student.movedim(1, -1), teacher.movedim(1, -1)), expected)


def test_how_sure_the_teacher_is_does_not_matter() -> None:
    student, teacher = random(4, 5), random(4, 5, seed=1)
    assert torch.equal(hard_label(student, teacher), hard_label(student, 0.01 * teacher))


def test_it_falls_where_the_student_agrees() -> None:
    teacher = random(4, 5)
    assert hard_label(10 * teacher, teacher).mean() < hard_label(-10 * teacher, teacher).mean()
