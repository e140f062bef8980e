import pytest
import torch
from torch.nn import functional

from edgekd.losses import LOSSES, Answer, Setup, Step
from edgekd.losses.feature.hint import Hint, hint


def test_mean_squares_are_torch_s() -> None:
    student, teacher = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    value = hint(student, teacher)
    assert value.shape == (3, 5, 5)  # a value a position, so that each can be weighed
    torch.testing.assert_close(value.mean(), functional.mse_loss(student, teacher))


def test_the_gradient_of_mean_squares_is_known() -> None:
    student, teacher = torch.randn(1, 4, requires_grad=True), torch.randn(1, 4)
    (gradient,) = torch.autograd.grad(hint(student, teacher).sum(), student)
    torch.testing.assert_close(gradient, (student - teacher).detach() / 2)


def test_tokens_have_a_value_each() -> None:
    student, teacher = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    torch.testing.assert_close(hint(student, teacher, "l1")[1, 2], (student - teacher)[1, 2].abs().mean())


def test_huber_is_half_the_square_up_to_delta_and_linear_beyond() -> None:
    values = hint(torch.tensor([[0.5], [10.0]]), torch.zeros(2, 1), "huber", delta=2.0)
    torch.testing.assert_close(values, torch.tensor([0.125, 2.0 * (10 - 1)]))


def test_the_cosine_is_along_channels_and_does_not_see_lengths() -> None:
    student = torch.randn(2, 4, 3, 3)
    teacher = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(hint(student, 7 * student, "cosine"), torch.zeros(2, 3, 3), atol=1e-6, rtol=0)
    first = 1 - functional.cosine_similarity(student[0].flatten(1).T, teacher[0].flatten(1).T, dim=1)
    torch.testing.assert_close(hint(student, teacher, "cosine")[0].flatten(), first)


def _step(student: torch.Tensor, teacher: torch.Tensor) -> tuple[Step, Setup]:
    mine, yours = Answer({}, {"a": student}), Answer({}, {"b": teacher})
    return Step(mine, {"t": yours}, yours), Setup(mine, {"t": yours}, samples=2)


def test_a_projector_is_learned_where_widths_differ() -> None:
    loss = Hint(taps={"a": "b"})
    step, setup = _step(torch.randn(2, 3, 8, 8), torch.randn(2, 6, 4, 4))
    memory = loss.prepare(setup)
    assert memory is not None
    weight, bias = memory.parameters()
    loss(step, memory).mean().backward()
    assert (
        weight.shape == (6, 3, 1, 1)
        and weight.grad is not None
        and weight.grad.abs().max() > 0
        and bias.grad is not None
    )


def test_only_the_class_token_is_compared_on_request() -> None:
    student, teacher = torch.randn(2, 5, 4), torch.randn(2, 5, 6)
    step, setup = _step(student, teacher)
    loss = Hint(taps={"a": "b"}, tokens="first")
    memory = loss.prepare(setup)
    value = loss(step, memory)
    changed, _ = _step(torch.cat([student[:, :1], torch.randn(2, 4, 4)], 1), teacher)
    assert value.shape == (2,)
    torch.testing.assert_close(loss(changed, memory), value)


@pytest.mark.parametrize("field", [{"delta": 0}, {"distance": "l3"}, {"projector": "mlp"}])
def test_bad_settings_are_refused(field: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        LOSSES["hint"].model_validate({"kind": "hint", **field})
