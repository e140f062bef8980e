import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Step
from edgekd.losses.logit.confidence_mix import ConfidenceMix, confidence_mix, mean_max_probability, soft_dice

from ..steps import make_setup, make_step, random

STUDENT, TEACHER = random(3, 1, 6, 6), random(3, 1, 6, 6, seed=1)


def mask_step(**changes: object) -> Step:
    return make_step(Answer({"output": STUDENT}), Answer({"output": TEACHER}), "mask", **changes)


def by_hand(s: Tensor, t: Tensor, y: Tensor, c: float) -> Tensor:
    """Return the mix of one sample from the positions given."""

    def dice(a: Tensor, b: Tensor) -> Tensor:
        return 1 - (2 * (a * b).sum() + 1e-6) / (a.sum() + b.sum() + 1e-6)

    p, q = torch.sigmoid(s), torch.sigmoid(t)
    to_teacher = functional.mse_loss(p, q) + dice(p, q)
    to_labels = functional.binary_cross_entropy(p, y) + dice(p, y)
    return c * to_teacher + (1 - c) * to_labels


def test_every_sample_is_mixed_by_its_own_confidence() -> None:
    step = mask_step()
    assert step.targets is not None
    value = ConfidenceMix()(step)
    for n, c in enumerate((0.9, 0.5, 0.2)):
        expected = by_hand(STUDENT[n, 0], TEACHER[n, 0], step.targets[n].double(), c)
        torch.testing.assert_close(value[n], expected)


def test_labels_and_positions_that_do_not_count_are_left_out() -> None:
    step = mask_step()
    assert step.targets is not None
    targets = step.targets.clone()
    targets[:, 0] = -1
    valid = torch.ones(3, 6, 6, dtype=torch.bool)
    valid[:, :, 3:] = False
    value = confidence_mix(
        STUDENT.flatten(1), TEACHER.flatten(1), targets.flatten(1), torch.tensor([0.0, 0.0, 0.0]), valid.flatten(1)
    )
    expected = by_hand(STUDENT[1, 0, 1:, :3], TEACHER[1, 0, 1:, :3], targets[1, 1:, :3].double(), 0.0)
    torch.testing.assert_close(value[1], expected)


def test_a_sample_without_labels_learns_from_the_teacher_alone() -> None:
    unlabelled = torch.full((3, 36), -1)
    student = STUDENT.flatten(1).requires_grad_()
    none = confidence_mix(student, TEACHER.flatten(1), unlabelled, torch.zeros(3))
    (gradient,) = torch.autograd.grad(none.sum(), student)
    assert none.abs().max() < 1e-9 and gradient.abs().max() < 1e-9
    assert (confidence_mix(student, TEACHER.flatten(1), unlabelled, torch.full((3,), 0.5)) > 0).all()


def test_without_an_array_the_teacher_s_own_sureness_is_used() -> None:
    step = mask_step(extras={})
    sure = mean_max_probability(TEACHER.flatten(1), torch.ones(3, 36, dtype=torch.bool))
    p = torch.sigmoid(TEACHER.flatten(1))
    torch.testing.assert_close(sure, torch.maximum(p, 1 - p).mean(1))
    given = dataclasses.replace(step, extras={"iou": sure[:, None]})
    torch.testing.assert_close(ConfidenceMix()(step), ConfidenceMix(confidence="iou")(given))


def test_dice_is_zero_for_equal_masks_and_one_for_disjoint_ones() -> None:
    a, b = torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    ones = torch.ones(1, 4)
    torch.testing.assert_close(soft_dice(a, a, ones), torch.zeros(1))
    torch.testing.assert_close(soft_dice(a, b, ones), torch.ones(1))


def test_several_classes_are_refused() -> None:
    answer = Answer({"output": random(3, 2, 6, 6)})
    with pytest.raises(InputError, match=r"\(3, 2, 6, 6\)"):
        ConfidenceMix().prepare(make_setup(answer, answer))
