import torch

from edgekd.losses.logit.kl import temperature_kl
from edgekd.losses.logit.kl_cosine import KlCosine, cosine_distance

from ..steps import answers, make_step, random


def test_the_distance_is_that_of_directions() -> None:
    student, teacher = (
        torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
        torch.tensor([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]),
    )
    torch.testing.assert_close(cosine_distance(student, teacher), torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(cosine_distance(7 * student, teacher), cosine_distance(student, teacher))


def test_it_is_the_sum_of_both() -> None:
    loss = KlCosine.model_validate({"temperature": 2, "cosine": {"start": 0, "end": 2}})
    student, teacher = answers(loss, seed=1)
    mine, yours = student.output(), teacher.output()
    cosine = (mine * yours).sum(1) / (mine.norm(dim=1) * yours.norm(dim=1))
    expected = temperature_kl(mine, yours, 2.0) + 0.5 * (1 - cosine)
    torch.testing.assert_close(loss(make_step(student, teacher, progress=0.25)), expected)


def test_maps_and_zero_logits_stay_finite() -> None:
    student = torch.zeros(2, 3, 3, 4, requires_grad=True)
    value = cosine_distance(student, random(2, 3, 3, 4, dtype=torch.float32))
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.shape == (2, 3, 3) and torch.isfinite(gradient).all()
