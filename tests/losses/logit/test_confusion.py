import torch
from torch.nn import functional

from edgekd.losses import Answer
from edgekd.losses.logit.confusion import Confusion, softened_cross_entropy

from ..steps import C, answers, make_step, memory_of, random


def test_it_is_the_cross_entropy_to_the_mixed_target() -> None:
    student, labels, rows = random(5, C), torch.tensor([0, 1, 2, 3, 0]), random(5, C, seed=1).softmax(-1)
    target = 0.7 * functional.one_hot(labels, C) + 0.3 * rows
    expected = functional.cross_entropy(student, target, reduction="none")
    torch.testing.assert_close(softened_cross_entropy(student, labels, rows, 0.3), expected)


def test_before_the_first_epoch_ends_it_is_the_plain_cross_entropy() -> None:
    loss = Confusion()
    student, _ = answers(loss, seed=1)
    step = make_step(student, Answer({}), progress=1.0)
    expected = functional.cross_entropy(student.output(), torch.tensor([0, 2, 1]), reduction="none")
    torch.testing.assert_close(loss(step, memory_of(loss, student, student)), expected)


def test_the_student_s_own_means_become_the_target_of_classes_seen_often() -> None:
    loss = Confusion(momentum=0.0)
    student = Answer({"output": random(7, C)})
    memory, labels = memory_of(loss, student, student), torch.tensor([0, 0, 0, 0, 0, 1, 2])
    step = make_step(student, Answer({}), targets=labels, progress=1.0)
    loss(step, memory)
    loss.end_epoch(memory, 0)
    rows = torch.eye(C, dtype=torch.float64)
    rows[0] = student.output()[:5].softmax(-1).mean(0)
    torch.testing.assert_close(memory.table, rows)
    target = 0.5 * functional.one_hot(labels, C) + 0.5 * rows[labels]
    torch.testing.assert_close(loss(step, memory), functional.cross_entropy(student.output(), target, reduction="none"))


def test_the_share_of_the_means_ramps_over_the_first_part() -> None:
    assert [round(Confusion().alpha.at(progress), 3) for progress in (0.0, 0.15, 0.3, 1.0)] == [0.0, 0.25, 0.5, 0.5]


def test_labels_left_out_stay_finite_and_out_of_the_means() -> None:
    loss = Confusion(least=1, momentum=0.0)
    student = Answer({"output": random(2, C, 3, 3)})
    targets = torch.full((2, 3, 3), -1)
    targets[0, 0, 0] = 1
    memory = memory_of(loss, student, student)
    value = loss(make_step(student, Answer({}), targets=targets), memory)
    loss.end_epoch(memory, 0)
    assert value.shape == (2, 3, 3) and torch.isfinite(value).all()
    torch.testing.assert_close(memory.table[1], student.output()[0, :, 0, 0].softmax(0))
