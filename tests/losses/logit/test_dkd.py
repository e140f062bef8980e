import torch

from edgekd.losses import Answer
from edgekd.losses.logit.dkd import Dkd, decoupled_parts
from edgekd.losses.logit.kl import temperature_kl

from ..steps import answers, make_step, random

LABELS = torch.tensor([0, 3, 2, 5, 1])


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return (p * (p / q).log()).sum(-1)


def test_the_parts_are_those_of_the_written_out_distributions() -> None:
    student, teacher = random(5, 6), random(5, 6, seed=1)
    target, others = decoupled_parts(student, teacher, LABELS, 2.0)
    for row, label in enumerate(LABELS.tolist()):
        p, q = (teacher[row] / 2).softmax(0), (student[row] / 2).softmax(0)
        rest = [index for index in range(6) if index != label]
        binary = [torch.stack([each[label], 1 - each[label]]) for each in (p, q)]
        torch.testing.assert_close(target[row], kl(binary[0], binary[1]))
        torch.testing.assert_close(others[row], kl(p[rest] / p[rest].sum(), q[rest] / q[rest].sum()))


def test_they_make_up_the_whole_divergence() -> None:
    student, teacher = random(5, 6), random(5, 6, seed=1)
    target, others = decoupled_parts(student, teacher, LABELS, 4.0)
    rest = 1 - (teacher / 4).softmax(-1).gather(1, LABELS[:, None]).squeeze(1)
    torch.testing.assert_close(16 * (target + rest * others), temperature_kl(student, teacher, 4.0))


def test_the_others_part_leaves_the_labelled_class_alone() -> None:
    student, teacher = random(5, 6).requires_grad_(), random(5, 6, seed=1)
    (gradient,) = torch.autograd.grad(decoupled_parts(student, teacher, LABELS)[1].sum(), student)
    assert gradient.gather(1, LABELS[:, None]).abs().max() == 0 and gradient.abs().max() > 0


def test_two_classes_have_no_others() -> None:
    student, teacher = random(3, 2), random(3, 2, seed=1)
    target, others = decoupled_parts(student, teacher, torch.tensor([0, 1, 1]), 1.0)
    torch.testing.assert_close(target, temperature_kl(student, teacher, 1.0))
    assert others.abs().max() == 0


def test_coefficients_and_temperature_are_applied() -> None:
    loss = Dkd.model_validate({"alpha": 0.5, "beta": 2, "temperature": 3})
    student, teacher = answers(loss, seed=1)
    target, others = decoupled_parts(student.output(), teacher.output(), torch.tensor([0, 2, 1]), 3.0)
    torch.testing.assert_close(loss(make_step(student, teacher)), 9 * (0.5 * target + 2 * others))


def test_maps_and_labels_left_out_stay_finite() -> None:
    student, teacher = (Answer({"output": random(2, 4, 3, 3, seed=seed)}) for seed in (0, 1))
    targets = torch.full((2, 3, 3), -1)
    targets[0] = 2
    value = Dkd()(make_step(student, teacher, targets=targets))
    assert value.shape == (2, 3, 3) and torch.isfinite(value).all()
