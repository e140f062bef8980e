import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from edgekd.losses.logit.kl import Direction, Kl, temperature_at, temperature_kl
from edgekd.losses.schedule import Schedule

from ..steps import answers, make_step, random

DIRECTIONS: tuple[Direction, ...] = ("forward", "reverse", "both", "jensen-shannon")


def torch_kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return functional.kl_div(q.log(), p, reduction="none").sum(-1)


def test_it_is_torch_s_divergence_times_the_squared_temperature() -> None:
    student, teacher = random(5, 7), random(5, 7, seed=1)
    p_student, p_teacher = (student / 3).softmax(1), (teacher / 3).softmax(1)
    forward, reverse = torch_kl(p_teacher, p_student), torch_kl(p_student, p_teacher)
    torch.testing.assert_close(temperature_kl(student, teacher, 3.0), 9 * forward)
    torch.testing.assert_close(temperature_kl(student, teacher, 3.0, "reverse"), 9 * reverse)
    torch.testing.assert_close(temperature_kl(student, teacher, 3.0, "both"), 9 * (forward + reverse) / 2)


def test_jensen_shannon_mixes_with_the_teacher_s_share() -> None:
    student, teacher = random(5, 7), random(5, 7, seed=1)
    p, q = teacher.softmax(1), student.softmax(1)
    mixed = 0.3 * p + 0.7 * q
    expected = 0.3 * torch_kl(p, mixed) + 0.7 * torch_kl(q, mixed)
    torch.testing.assert_close(temperature_kl(student, teacher, 1.0, "jensen-shannon", 0.3), expected)


def test_jensen_shannon_of_halves_is_symmetric_and_below_log_2() -> None:
    one, other = random(5, 7, scale=20), random(5, 7, seed=1, scale=20)
    there = temperature_kl(one, other, 1.0, "jensen-shannon")
    torch.testing.assert_close(there, temperature_kl(other, one, 1.0, "jensen-shannon"))
    assert (there < torch.tensor(2.0).log()).all() and there.max() > 0.5


def test_forward_and_reverse_differ() -> None:
    student, teacher = random(5, 7), random(5, 7, seed=1)
    assert not torch.allclose(temperature_kl(student, teacher), temperature_kl(student, teacher, direction="reverse"))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_equal_logits_give_no_loss_and_no_gradient(direction: Direction) -> None:
    logits = random(3, 4).requires_grad_()
    loss = temperature_kl(logits, logits + 2.0, 4.0, direction).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.abs() < 1e-9 and gradient.abs().max() < 1e-9


def test_the_gradient_is_the_difference_of_probabilities_at_temperature_one() -> None:
    student, teacher = random(1, 4).requires_grad_(), random(1, 4, seed=1)
    (gradient,) = torch.autograd.grad(temperature_kl(student, teacher, 1.0).sum(), student)
    torch.testing.assert_close(gradient, student.detach().softmax(1) - teacher.softmax(1))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_no_gradient_reaches_the_teacher(direction: Direction) -> None:
    student, teacher = random(2, 3).requires_grad_(), random(2, 3, seed=1).requires_grad_()
    temperature_kl(student, teacher, direction=direction).sum().backward()
    assert teacher.grad is None and student.grad is not None


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_large_logits_and_half_precision_stay_finite(direction: Direction) -> None:
    student = torch.tensor([[50.0, -50.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = temperature_kl(student, torch.tensor([[-50.0, 50.0]], dtype=torch.bfloat16), 1.0, direction)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert loss.dtype == torch.float32 and torch.isfinite(loss).all() and torch.isfinite(gradient).all()


def test_a_map_has_a_value_a_position() -> None:
    student, teacher = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
    found = temperature_kl(student, teacher)
    assert found.shape == (2, 3, 4)
    torch.testing.assert_close(found[1, 2, 3], temperature_kl(student[1, 2, 3], teacher[1, 2, 3]))


def test_auto_warms_up_with_sgd_and_stays_with_others() -> None:
    student, teacher = answers(Kl(), seed=0)
    for progress, expected in ((0.0, 2.0), (0.5, 5.0), (1.0, 8.0)):
        assert temperature_at("auto", make_step(student, teacher, progress=progress)) == expected
        assert temperature_at("auto", make_step(student, teacher, progress=progress, optimizer="adamw")) == 4.0
        schedule = Schedule(start=1.0, end=3.0)
        assert temperature_at(schedule, make_step(student, teacher, progress=progress)) == 1 + 2 * progress


def test_the_settings_reach_the_function() -> None:
    loss = Kl.model_validate({"temperature": 2, "direction": "jensen-shannon", "beta": 0.9})
    student, teacher = answers(loss, seed=0)
    expected = temperature_kl(student.output(), teacher.output(), 2.0, "jensen-shannon", 0.9)
    torch.testing.assert_close(loss(make_step(student, teacher)), expected)


@pytest.mark.parametrize("field", [{"temperature": 0}, {"temperature": "cold"}, {"beta": 1.0}, {"direction": "up"}])
def test_values_out_of_range_are_refused(field: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Kl.model_validate(field)


def test_a_single_logit_tells_yes_from_no() -> None:
    student, teacher = torch.tensor([[0.3], [-1.0]]), torch.tensor([[2.0], [0.5]])
    p, q = torch.sigmoid(teacher / 2), torch.sigmoid(student / 2)
    expected = 4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())[:, 0]
    torch.testing.assert_close(temperature_kl(student, teacher, 2.0), expected)
