import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.feature.bottleneck import Balance, Bottleneck, magnitude_ratio

from ..steps import random

TEACHER, WANTED = random(3, 4, 2, 2), random(3, 5, seed=1)
DECODER = random(16, 5, seed=2)


def step_of(feature: Tensor, coefficient: float = 1.0) -> Step:
    output = feature.flatten(1) @ DECODER
    student, teacher = Answer({"output": output}, {"b": feature}), Answer({"output": WANTED}, {"b": TEACHER})
    task = coefficient * (output - WANTED).square().mean()
    return Step(student, {"teacher": teacher}, teacher, targets=WANTED, task=task)


def memory_of(loss: Bottleneck) -> nn.Module:
    step = step_of(random(3, 4, 2, 2, seed=3))
    memory = loss.prepare(Setup(step.student, step.teachers, samples=3))
    assert memory is not None
    return memory.double()


@pytest.mark.parametrize("coefficient", [0.01, 1.0, 100.0])
def test_its_gradient_is_as_long_as_the_tasks(coefficient: float) -> None:
    feature = random(3, 4, 2, 2, seed=3).requires_grad_()
    loss = Bottleneck(taps={"b": "b"})
    step = step_of(feature, coefficient)
    value = loss(step, memory_of(loss)).mean()
    assert step.task is not None
    lengths = [torch.autograd.grad(one, feature, retain_graph=True)[0].norm() for one in (step.task, value)]
    torch.testing.assert_close(lengths[0], lengths[1], rtol=1e-5, atol=0)


def test_the_ratio_is_that_of_the_gradients_norms() -> None:
    feature = random(6).requires_grad_()
    ratio = magnitude_ratio(3 * feature.sum(), 2 * feature.sum(), feature)
    assert ratio is not None and not ratio.requires_grad and float(ratio) == pytest.approx(1.5)
    assert magnitude_ratio(random(2).requires_grad_().sum(), feature.sum(), feature) is None


def test_rho_descends_at_its_own_rate() -> None:
    feature = random(3, 4, 2, 2, seed=3).requires_grad_()
    loss, step = Bottleneck(taps={"b": "b"}, rate=0.1), step_of(feature)
    memory = memory_of(loss)
    before = float(memory.balance.rho)  # type: ignore[union-attr,arg-type]
    assert functional.softplus(torch.tensor(before)) == pytest.approx(1)
    distance = (feature - TEACHER).square().mean()
    assert step.task is not None
    ratio = magnitude_ratio(step.task, distance, feature)
    assert ratio is not None
    loss(step, memory)
    expected = before - 0.1 / (1 + math.exp(-before)) * float(ratio) * float(distance.detach())
    assert float(memory.balance.rho) == pytest.approx(expected)  # type: ignore[union-attr,arg-type]
    assert not list(memory.parameters())  # no other optimizer moves it


def test_without_the_tasks_loss_it_is_the_distance() -> None:
    feature = random(3, 4, 2, 2, seed=3)
    loss = Bottleneck(taps={"b": "b"})
    with torch.no_grad():
        value = loss(step_of(feature), memory_of(loss))
    torch.testing.assert_close(value, (feature - TEACHER).square().mean(1))


def test_uncertainty_weighs_both_losses() -> None:
    feature = random(3, 4, 2, 2, seed=3).requires_grad_()
    loss, step = Bottleneck(taps={"b": "b"}, balance="uncertainty"), step_of(feature)
    memory = memory_of(loss)
    assert isinstance(memory.balance, Balance) and memory.balance.spread is not None
    with torch.no_grad():
        memory.balance.spread.copy_(torch.tensor([0.5, -0.25]))
    own = loss.own_loss(step, memory)
    assert own is not None and step.task is not None
    total = step.task + loss(step, memory).mean() + own
    expected = math.exp(-0.5) * step.task + math.exp(0.25) * (feature - TEACHER).square().mean() + 0.25
    torch.testing.assert_close(total, expected)


def test_a_tap_that_the_task_does_not_see_is_refused() -> None:
    step = step_of(random(3, 4, 2, 2, seed=3).requires_grad_())
    loss = Bottleneck(taps={"b": "b"})
    other = Step(
        Answer(step.student.outputs, {"b": random(3, 4, 2, 2).requires_grad_()}),
        step.teachers, step.teacher, task=step.task,
    )  # fmt: skip
    with pytest.raises(InputError, match="does not depend on b"):
        loss(other, memory_of(loss))


def test_it_has_one_tap() -> None:
    with pytest.raises(ValidationError, match="name the one bottleneck"):
        Bottleneck(taps={"a": "a", "b": "b"})
