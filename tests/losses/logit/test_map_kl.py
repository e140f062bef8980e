import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer
from edgekd.losses.logit.map_kl import MapKl, map_kl

from ..steps import make_setup, make_step, random


def test_it_is_torch_s_divergence_over_positions() -> None:
    student, teacher = random(3, 8), random(3, 8, seed=1)
    expected = functional.kl_div((student / 2).log_softmax(1), (teacher / 2).softmax(1), reduction="none").sum(1)
    torch.testing.assert_close(map_kl(student, teacher, 2.0), 4 * expected)


def test_positions_left_out_are_as_if_they_were_not_there() -> None:
    student, teacher = random(3, 8).requires_grad_(), random(3, 8, seed=1)
    valid = torch.tensor([True] * 5 + [False] * 3)
    value = map_kl(student, teacher, 1.0, valid)
    torch.testing.assert_close(value, map_kl(student[:, :5], teacher[:, :5]))
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert (gradient[:, 5:] == 0).all() and torch.isfinite(gradient).all()


def test_a_map_without_positions_gives_nothing() -> None:
    student = random(3, 8).requires_grad_()
    value = map_kl(student, random(3, 8, seed=1), 1.0, torch.zeros(3, 8, dtype=torch.bool))
    value.sum().backward()
    assert student.grad is not None
    assert (value == 0).all() and (student.grad == 0).all()


def test_maps_with_and_without_a_channel_axis_are_the_same() -> None:
    student, teacher = random(3, 1, 4, 5), random(3, 1, 4, 5, seed=1)
    valid = random(3, 4, 5, seed=2) > 0
    values = [
        MapKl()(make_step(Answer({"output": s}), Answer({"output": t}), "mask", valid=valid))
        for s, t in ((student, teacher), (student[:, 0], teacher[:, 0]))
    ]
    torch.testing.assert_close(*values)
    sample = map_kl(student[1, 0][valid[1]], teacher[1, 0][valid[1]])
    torch.testing.assert_close(values[0][1], sample)


def test_several_channels_are_averaged() -> None:
    student, teacher = random(3, 2, 4, 5), random(3, 2, 4, 5, seed=1)
    value = MapKl()(make_step(Answer({"output": student}), Answer({"output": teacher}), "mask"))
    first, second = (map_kl(student[:, c].flatten(1), teacher[:, c].flatten(1)) for c in (0, 1))
    torch.testing.assert_close(value, (first + second) / 2)


def test_maps_of_two_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(3, 1, 4, 4\).*\(3, 1, 8, 8\)"):
        MapKl().prepare(make_setup(Answer({"output": random(3, 1, 4, 4)}), Answer({"output": random(3, 1, 8, 8)})))
