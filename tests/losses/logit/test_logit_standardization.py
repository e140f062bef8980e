import torch

from edgekd.losses.logit.kl import temperature_kl
from edgekd.losses.logit.logit_standardization import LogitStandardization, standardize

from ..steps import answers, make_step, random


def test_every_element_gets_mean_zero_and_deviation_one() -> None:
    found = standardize(random(2, 3, 50, scale=9) + 4)
    torch.testing.assert_close(found.mean(-1), torch.zeros(2, 3).double())
    torch.testing.assert_close(found.std(-1, correction=0), torch.ones(2, 3).double())


def test_the_range_of_the_teacher_s_logits_does_not_matter() -> None:
    loss = LogitStandardization()
    student, teacher = answers(loss, seed=1)
    found = loss(make_step(student, teacher))
    teacher.outputs["output"] = 7 * teacher.outputs["output"] - 3
    torch.testing.assert_close(loss(make_step(student, teacher)), found)


def test_it_is_the_divergence_of_standardised_logits() -> None:
    loss = LogitStandardization.model_validate({"temperature": 3, "direction": "reverse"})
    student, teacher = answers(loss, seed=1)
    mine, yours = (
        (z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True, correction=0)
        for z in (student.output(), teacher.output())
    )
    torch.testing.assert_close(loss(make_step(student, teacher)), temperature_kl(mine, yours, 3.0, "reverse"))


def test_constant_logits_become_zero_with_a_finite_gradient() -> None:
    logits = torch.full((2, 4), 5.0, requires_grad=True)
    found = standardize(logits)
    (gradient,) = torch.autograd.grad(temperature_kl(found, random(2, 4, dtype=torch.float32)).sum(), logits)
    assert found.abs().max() == 0 and torch.isfinite(gradient).all()
