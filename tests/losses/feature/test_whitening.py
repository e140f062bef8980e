import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.feature.whitening import Whitening, correlation, whitening


def test_correlations_are_torch_s() -> None:
    features = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(correlation(features, 0.0)[1], torch.corrcoef(features[1].flatten(1)))


def test_it_is_the_mean_square_of_what_differs() -> None:
    student, target = torch.randn(2, 3, 5, 5), torch.eye(3)
    expected = (correlation(student)[1] - target).pow(2).sum() / 9
    torch.testing.assert_close(whitening(student, target)[1], expected)


def _step(student: torch.Tensor, teacher: torch.Tensor) -> tuple[Step, Setup]:
    mine, yours = Answer({}, {"penultimate": student}), Answer({}, {"penultimate": teacher})
    return Step(mine, {"t": yours}, yours), Setup(mine, {"t": yours}, 2)


def test_descent_to_the_identity_decorrelates_the_channels() -> None:
    torch.manual_seed(0)
    shared = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    student = (shared + 0.3 * torch.randn(2, 3, 6, 6, dtype=torch.float64)).requires_grad_()
    loss, optimizer = Whitening(towards="identity"), torch.optim.Adam([student], 0.05)
    before = loss(_step(student, shared)[0]).mean().item()
    for _ in range(100):
        optimizer.zero_grad()
        loss(_step(student, shared)[0]).mean().backward()
        optimizer.step()
    assert before > 0.3 and loss(_step(student, shared)[0]).max() < 0.01


def test_scales_and_shifts_of_channels_change_nothing() -> None:
    student = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    scaled = student * torch.tensor([1.0, 20.0, 5.0])[:, None, None] + 3
    assert Whitening()(_step(student, scaled)[0]).max() < 1e-8


def test_a_projector_meets_the_teacher_s_width_and_none_the_identity() -> None:
    step, setup = _step(torch.randn(2, 3, 5, 5), torch.randn(2, 6, 7, 7))
    loss = Whitening()
    assert loss(step, loss.prepare(setup)).shape == (2,)
    memory = Whitening(towards="identity").prepare(setup)
    assert memory is not None and not list(memory.parameters())


def test_vectors_are_refused() -> None:
    with pytest.raises(InputError, match="is no map"):
        Whitening().prepare(_step(torch.randn(2, 3), torch.randn(2, 3))[1])
