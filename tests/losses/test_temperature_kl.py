import torch
from torch.nn import functional

from edgekd.losses import temperature_kl


def test_equal_logits_give_no_loss_and_no_gradient() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    loss = temperature_kl(logits, logits.detach().clone(), 4.0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.abs() < 1e-6 and gradient.abs().max() < 1e-6


def test_it_is_torch_s_divergence_times_the_squared_temperature() -> None:
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    expected = 9 * functional.kl_div(
        (student / 3).log_softmax(1), (teacher / 3).log_softmax(1), log_target=True, reduction="batchmean"
    )
    torch.testing.assert_close(temperature_kl(student, teacher, 3.0), expected)


def test_the_gradient_is_the_difference_of_probabilities_at_temperature_one() -> None:
    student, teacher = torch.randn(1, 4, requires_grad=True), torch.randn(1, 4)
    (gradient,) = torch.autograd.grad(temperature_kl(student, teacher, 1.0), student)
    torch.testing.assert_close(gradient, student.detach().softmax(1) - teacher.softmax(1))


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = torch.randn(2, 3, requires_grad=True)
    temperature_kl(torch.randn(2, 3, requires_grad=True), teacher).backward()
    assert teacher.grad is None


def test_masked_elements_do_not_count() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    valid = torch.zeros(2, 4, 4, dtype=torch.bool)
    valid[0] = True
    changed = teacher.clone()
    changed[1] += torch.randn(3, 4, 4)
    torch.testing.assert_close(
        temperature_kl(student, teacher, valid=valid), temperature_kl(student, changed, valid=valid)
    )
    torch.testing.assert_close(temperature_kl(student, teacher, valid=valid), temperature_kl(student[:1], teacher[:1]))


def test_large_logits_and_half_precision_stay_finite() -> None:
    student = torch.tensor([[50.0, -50.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = temperature_kl(student, torch.tensor([[-50.0, 50.0]]), 1.0)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss) and torch.isfinite(student.grad).all()
