import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.feature.channel_kl import ChannelKl, channel_kl


def test_it_is_torch_s_divergence_over_positions() -> None:
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    expected = 16 * functional.kl_div(
        (student / 4).reshape(6, 20).log_softmax(1), (teacher / 4).reshape(6, 20).softmax(1), reduction="batchmean"
    )
    torch.testing.assert_close(channel_kl(student, teacher).mean(), expected)


def test_a_shift_of_a_channel_changes_nothing() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(channel_kl(student + torch.randn(2, 3, 1, 1), teacher), channel_kl(student, teacher))


def test_positions_that_do_not_count_are_as_if_cut_off() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[:, 2:] = False
    expected = channel_kl(student[:, :, :2], teacher[:, :, :2])
    torch.testing.assert_close(channel_kl(student, teacher, valid=valid), expected)
    answers = Answer({}, {"penultimate": student}), Answer({}, {"penultimate": teacher})
    torch.testing.assert_close(ChannelKl()(Step(answers[0], teacher=answers[1], valid=valid)), expected)


def test_a_sample_without_positions_that_count_has_no_loss() -> None:
    student = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = channel_kl(student, torch.randn(1, 3, 4, 4), valid=torch.zeros(1, 4, 4, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.item() == 0 and not gradient.any()


def test_vectors_are_refused() -> None:
    vector = Answer({}, {"penultimate": torch.randn(2, 3)})
    with pytest.raises(InputError, match="have no positions"):
        ChannelKl().prepare(Setup(vector, {"t": vector}, 2))
