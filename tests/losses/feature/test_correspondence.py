import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.correspondence import Correspondence, at_pixels

from ..steps import Answer, make_setup, make_step, memory_of, random

INDEX = torch.tensor([[0, 5, -1], [2, 2, 3], [-1, -1, -1]])  # of maps 2 x 3


def test_each_point_meets_its_pixel() -> None:
    student, teacher = Answer({}, {"a": random(3, 3, 4)}), Answer({}, {"b": random(3, 4, 2, 3, seed=1)})
    loss = Correspondence(taps={"a": "b"})
    step = make_step(student, teacher, extras={"correspondence": INDEX})
    found = loss(step, memory_of(loss, student, teacher))
    for sample in range(2):
        apart = [
            1 - functional.cosine_similarity(
                student.features["a"][sample, point], teacher.features["b"][sample, :, pixel // 3, pixel % 3], dim=0
            )
            for point, pixel in enumerate(INDEX[sample].tolist())
            if pixel >= 0
        ]  # fmt: skip
        torch.testing.assert_close(found[sample], torch.stack(apart).mean())
    assert found[2] == 0  # it has no pair


def test_points_without_a_pixel_or_not_valid_get_no_gradient() -> None:
    feature = random(3, 3, 4).requires_grad_()
    student, teacher = Answer({}, {"a": feature}), Answer({}, {"b": random(3, 4, 2, 3, seed=1)})
    loss = Correspondence(taps={"a": "b"}, distance="mse")
    valid = torch.ones(3, 3, dtype=torch.bool)
    valid[0, 0] = False
    step = make_step(student, teacher, extras={"correspondence": INDEX}, valid=valid)
    (gradient,) = torch.autograd.grad(loss(step, None).sum(), feature)
    wanted = valid & (INDEX >= 0)
    assert torch.equal(gradient.abs().sum(-1) > 0, wanted)
    pixels = at_pixels(teacher.features["b"], INDEX)
    torch.testing.assert_close(
        gradient[1], (2 / 4 / 3) * (feature - pixels).detach()[1]
    )  # mean over 4 channels and 3 points


def test_series_of_points_are_the_same_points_turned() -> None:
    student, teacher = random(3, 3, 5), Answer({}, {"b": random(3, 4, 2, 3, seed=1)})
    values = []
    for layout, feature in (("tokens", student), ("series", student.transpose(1, 2))):
        loss = Correspondence(taps={"a": "b"}, layout=layout)
        mine = Answer({}, {"a": feature})
        step = make_step(mine, teacher, extras={"correspondence": INDEX})
        values.append(loss(step, memory_of(loss, mine, teacher)))
    torch.testing.assert_close(*values)


def test_what_does_not_fit_is_said() -> None:
    student, teacher = Answer({}, {"a": random(3, 3, 4)}), Answer({}, {"b": random(3, 4, 2, 3)})
    loss = Correspondence(taps={"a": "b"})
    with pytest.raises(InputError, match="no array 'correspondence'"):
        loss(make_step(student, teacher), None)
    with pytest.raises(InputError, match="the pixel 6, the teacher's map is 2 x 3"):
        loss(make_step(student, teacher, extras={"correspondence": INDEX + 1}), None)
    with pytest.raises(InputError, match="an entry a point"):
        loss(make_step(student, teacher, extras={"correspondence": INDEX[:, :2]}), None)
    with pytest.raises(InputError, match="set index"):
        Correspondence(taps={"a": "b"}, index="none").prepare(make_setup(student, teacher))
    with pytest.raises(InputError, match="gives a map"):
        loss.prepare(make_setup(student, Answer({}, {"b": random(3, 4)})))
