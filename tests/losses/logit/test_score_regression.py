import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer
from edgekd.losses.logit.score_regression import Bce, MarginMse, Mse, margin_mse, soft_bce, squared_error

from ..steps import make_setup, make_step, random


def test_squared_error_is_torch_s_mean_over_the_last_axis() -> None:
    student, teacher = random(3, 4), random(3, 4, seed=1)
    expected = functional.mse_loss(student, teacher, reduction="none").mean(1)
    torch.testing.assert_close(squared_error(student, teacher), expected)


def test_bce_is_torch_s_less_the_targets_entropy() -> None:
    student, teacher = random(3, 4), random(3, 4, seed=1)
    target = torch.sigmoid(teacher / 2)
    entropy = functional.binary_cross_entropy(target, target, reduction="none")
    expected = functional.binary_cross_entropy_with_logits(student / 2, target, reduction="none") - entropy
    torch.testing.assert_close(soft_bce(student, teacher, 2.0), 4 * expected.mean(1))


def test_bce_has_the_gradient_of_cross_entropy() -> None:
    student = random(3, 4).requires_grad_()
    teacher = random(3, 4, seed=1)
    (gradient,) = torch.autograd.grad(soft_bce(student, teacher).sum(), student)
    torch.testing.assert_close(gradient, (torch.sigmoid(student.detach()) - torch.sigmoid(teacher)) / 4)


def test_margins_are_those_to_the_first_candidate() -> None:
    student, teacher = random(3, 4), random(3, 4, seed=1)
    for query in range(3):
        errors = [
            ((student[query, 0] - student[query, k]) - (teacher[query, 0] - teacher[query, k])) ** 2 for k in (1, 2, 3)
        ]
        torch.testing.assert_close(margin_mse(student, teacher)[query], sum(errors) / 3)


def test_margins_do_not_change_with_a_shift_of_all_scores() -> None:
    student, teacher = random(3, 4), random(3, 4, seed=1)
    torch.testing.assert_close(margin_mse(student + 5, teacher - 2), margin_mse(student, teacher))


@pytest.mark.parametrize("loss", [Mse(), Mse(of="probabilities"), Bce()])
def test_one_value_a_sample_is_compared_sample_by_sample(loss: Mse | Bce) -> None:
    flat = make_step(Answer({"output": random(3)}), Answer({"output": random(3, seed=1)}))
    column = make_step(Answer({"output": random(3)[:, None]}), Answer({"output": random(3, seed=1)}))
    torch.testing.assert_close(loss(flat), loss(column))
    assert loss(flat).shape == (3,)


def test_maps_keep_their_positions() -> None:
    step = make_step(Answer({"output": random(3, 2, 5, 6)}), Answer({"output": random(3, 2, 5, 6, seed=1)}))
    assert Mse()(step).shape == Bce()(step).shape == (3, 5, 6)


def test_probabilities_are_compared_after_the_sigmoid() -> None:
    student, teacher = random(3, 1), random(3, 1, seed=1)
    step = make_step(Answer({"output": student}), Answer({"output": teacher}))
    expected = (torch.sigmoid(student) - torch.sigmoid(teacher)).square()[:, 0]
    torch.testing.assert_close(Mse(of="probabilities")(step), expected)


@pytest.mark.parametrize("size", [(3, 1), (3, 5), (3, 4, 2)])
def test_candidates_that_do_not_fit_are_named(size: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="candidates"):
        MarginMse().prepare(make_setup(Answer({"output": random(*size)}), Answer({"output": random(3, 4)})))


def test_values_of_another_shape_are_named() -> None:
    setup = make_setup(Answer({"output": random(3, 4)}), Answer({"output": random(3, 5)}))
    with pytest.raises(InputError, match=r"\(3, 4\).*\(3, 5\)"):
        Mse().prepare(setup)


def test_a_temperature_is_above_zero() -> None:
    with pytest.raises(ValidationError, match="above 0"):
        Bce(temperature=0.0)  # type: ignore[arg-type]
