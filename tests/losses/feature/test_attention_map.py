import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup
from edgekd.losses.feature.attention_map import AttentionTransfer, attention_transfer


def test_it_is_the_distance_of_unit_attention_maps() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    for sample, value in enumerate(attention_transfer(student, teacher)):
        mine, yours = ((side[sample] ** 2).sum(0).flatten() for side in (student, teacher))
        torch.testing.assert_close(value, (mine / mine.norm() - yours / yours.norm()).pow(2).sum())


def test_signs_and_scales_of_channels_do_not_matter() -> None:
    student = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(attention_transfer(student, -5 * student), torch.zeros(2))


def test_the_larger_map_is_pooled() -> None:
    teacher = torch.rand(1, 2, 4, 4)
    student = teacher.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(attention_transfer(student, teacher), torch.zeros(1))


def test_disjoint_attention_is_furthest() -> None:
    student, teacher = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    student[..., 0], teacher[..., 1] = 1, 1
    assert attention_transfer(student, teacher).item() == 2


def test_vectors_are_refused() -> None:
    setup = Setup(
        Answer({}, {"penultimate": torch.randn(2, 3)}), {"t": Answer({}, {"penultimate": torch.randn(2, 5)})}, 2
    )
    with pytest.raises(InputError, match="hint for vectors"):
        AttentionTransfer().prepare(setup)
