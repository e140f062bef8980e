import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgekd.losses import Answer
from edgekd.losses.logit.class_means import ClassMeans
from edgekd.losses.logit.gkl import Dkl, Gkl, Ikl, decoupled_kl, weighted_mse

from ..steps import C, N, answers, make_step, memory_of, random


def pairwise(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """The weighted MSE as the paper writes it, over all C x C pairs."""
    difference = teacher - student
    pairs = difference[..., :, None] - difference[..., None, :]
    return (weights[..., :, None] * weights[..., None, :] * pairs.square()).sum((-1, -2)) / 4


@pytest.mark.parametrize("gamma", [0.0, 0.05, 1.0])
def test_the_short_form_is_the_sum_over_all_pairs(gamma: float) -> None:
    student, teacher = random(6, 50, scale=5), random(6, 50, seed=1, scale=5)
    weights = random(6, 50, seed=2).softmax(-1) ** gamma
    expected = pairwise(student, teacher, weights)
    assert ((weighted_mse(student, teacher, weights) - expected) / expected).abs().max() < 1e-6
    short = weighted_mse(student.float(), teacher.float(), weights.float()).double()
    assert ((short - expected) / expected).abs().max() < 1e-5


def test_a_common_shift_of_the_logits_does_not_matter_in_float32() -> None:
    student, teacher = random(4, 10, dtype=torch.float32), random(4, 10, seed=1, dtype=torch.float32)
    weights = teacher.softmax(-1)
    torch.testing.assert_close(
        weighted_mse(student + 1000, teacher, weights), weighted_mse(student, teacher, weights), rtol=1e-3, atol=1e-5
    )


def test_both_gradients_of_the_decoupled_loss_are_those_of_kl() -> None:
    student, teacher = random(5, 8).requires_grad_(), random(5, 8, seed=1).requires_grad_()
    kl = functional.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="sum")
    expected = torch.autograd.grad(kl, (student, teacher))
    found = torch.autograd.grad(decoupled_kl(student, teacher).sum(), (student, teacher))
    torch.testing.assert_close(found, expected)


def test_the_mse_s_gradient_to_the_teacher_is_kl_s() -> None:
    student, teacher = random(5, 8), random(5, 8, seed=1).requires_grad_()
    kl = functional.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="sum")
    mse = pairwise(student, teacher, teacher.detach().softmax(-1)).sum()
    torch.testing.assert_close(torch.autograd.grad(mse, teacher), torch.autograd.grad(kl, teacher))


def test_dkl_teaches_what_kl_does_without_the_squared_temperature() -> None:
    loss = Dkl.model_validate({"temperature": 2})
    student, teacher = answers(loss, seed=1)
    logits = student.output().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(make_step(Answer({"output": logits}), teacher)).sum(), logits)
    torch.testing.assert_close(gradient, ((logits / 2).softmax(-1) - (teacher.output() / 2).softmax(-1)).detach() / 2)


def expected_loss(student: Tensor, teacher: Tensor, weights: Tensor, alpha: float, beta: float, norm: Tensor) -> Tensor:
    """beta wMSE + alpha (CE - H) of a batch, T = 4, as its mean."""
    target = (teacher / 4).softmax(-1)
    entropy = -(target * target.log()).sum(-1)
    cross = functional.cross_entropy(student / 4, target, reduction="none") - entropy
    return beta * pairwise(student, teacher, weights).sum() / norm + alpha * cross.mean()


def test_gkl_in_its_first_epoch_and_after_it() -> None:
    loss = Gkl.model_validate({"alpha": 2})
    student, teacher = answers(loss, seed=1)
    mine, yours = student.output(), teacher.output()
    memory, step = memory_of(loss, student, teacher), make_step(student, teacher)
    first = torch.full((N, C), 1 / C, dtype=torch.float64) ** 0.05
    expected = expected_loss(mine, yours, first, 2, 16, first.sum(-1).square().sum())
    torch.testing.assert_close(loss(step, memory).mean(), expected)
    loss.end_epoch(memory, 0)
    weights = (yours / 4).softmax(-1) ** 0.05  # each of the three samples is the only one of its class
    expected = expected_loss(mine, yours, weights, 2, 16, weights.sum(-1).square().sum())
    torch.testing.assert_close(loss(step, memory).mean(), expected)
    assert isinstance(memory, ClassMeans)
    torch.testing.assert_close(memory.table[3], torch.full((C,), 1 / C, dtype=torch.float64))


def test_ikl_divides_by_the_batch_and_does_not_smooth() -> None:
    loss = Ikl.model_validate({"weights": "sample"})
    student, teacher = answers(loss, seed=1)
    weights = (teacher.output() / 4).softmax(-1)
    expected = expected_loss(student.output(), teacher.output(), weights, 1, 8, torch.tensor(float(N)))
    assert memory_of(loss, student, teacher) is None
    torch.testing.assert_close(loss(make_step(student, teacher)).mean(), expected)


def test_positions_left_out_change_neither_the_others_nor_the_table() -> None:
    loss = Gkl.model_validate({"weights": "class"})
    maps = [random(2, C, 4, 4, seed=seed) for seed in (0, 1)]
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[:, 2:] = False
    targets = torch.randint(0, C, (2, 4, 4), generator=torch.Generator().manual_seed(0))
    found, tables = [], []
    for shift in (0.0, 3.0):
        student, teacher = (Answer({"output": torch.where(valid[:, None], tensor, tensor * shift)}) for tensor in maps)
        memory = memory_of(loss, student, teacher)
        loss(make_step(student, teacher, targets=targets, valid=valid), memory)
        loss.end_epoch(memory, 0)
        found.append(loss(make_step(student, teacher, targets=targets, valid=valid), memory)[valid])
        tables.append(memory.table)
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(tables[0], tables[1])


def test_two_processes_divide_by_the_weights_of_both() -> None:
    loss = Gkl.model_validate({"weights": "sample", "gamma": 0.5})
    student, teacher = Answer({"output": random(6, C)}), Answer({"output": random(6, C, seed=1, scale=3)})
    whole = loss(make_step(student, teacher))
    half, rest = (
        [Answer({"output": answer.output()[part]}) for answer in (student, teacher)] for part in (slice(3), slice(3, 6))
    )
    squares = ((rest[1].output() / 4).softmax(-1) ** 0.5).sum(-1).square()
    others = iter([squares, torch.ones_like(squares)])
    found = loss(make_step(*half, gather=lambda tensor: torch.cat([tensor, next(others)])))
    torch.testing.assert_close(found, whole[:3])


def test_by_default_it_warms_up() -> None:
    assert Gkl().weight.at(0.0) == 0 and Gkl().weight.at(0.1) == 1
    assert Gkl.model_validate({"weight": 0.7}).weight.at(0.0) == 0.7
