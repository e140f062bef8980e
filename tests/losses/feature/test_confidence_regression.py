import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Step
from edgekd.losses.feature.confidence_regression import ConfidenceRegression, confidence_regression


def test_it_is_the_distance_times_the_teacher_s_confidence() -> None:
    student, teacher, confidence = torch.randn(4, 3), torch.randn(4, 3), torch.rand(4)
    expected = torch.stack(
        [c * (a - b).pow(2).sum().sqrt() for a, b, c in zip(student, teacher, confidence, strict=True)]
    )
    torch.testing.assert_close(confidence_regression(student, teacher, confidence), expected)


def test_the_best_own_confidence_is_alpha_over_the_distance() -> None:
    distance, alpha = 0.1, 0.2
    own = torch.zeros(1, requires_grad=True, dtype=torch.float64)
    best = torch.tensor([alpha / distance - 1], dtype=torch.float64).log()
    for at, sign in ((best - 0.1, -1), (best, 0), (best + 0.1, 1)):
        student = torch.tensor([[distance, 0.0]], dtype=torch.float64)
        own = at.clone().requires_grad_()
        value = confidence_regression(student, torch.zeros_like(student), torch.ones(1), own, alpha)
        (slope,) = torch.autograd.grad(value.sum(), own)
        assert torch.sign(slope.where(slope.abs() > 1e-9, 0.0)).item() == sign


def test_no_gradient_where_both_agree() -> None:
    student = torch.randn(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(confidence_regression(student, student.detach(), torch.ones(2)).sum(), student)
    assert not gradient.any()


def test_point_maps_take_confidence_from_outputs_or_extras() -> None:
    points, targets, map_, own = (torch.randn(2, n, 4, 4) for n in (3, 3, 1, 1))
    student = Answer({"points": points, "own": own})
    expected = confidence_regression(points.movedim(1, -1), targets.movedim(1, -1), map_[:, 0], own[:, 0])
    loss = ConfidenceRegression(own="own")
    stored = Step(student, teacher=Answer({"points": targets}), extras={"confidence": map_[:, 0]})
    given = Step(student, teacher=Answer({"points": targets, "confidence": map_}))
    torch.testing.assert_close(loss(stored), expected)
    torch.testing.assert_close(loss(given), expected)


def test_a_confidence_a_sample_holds_for_all_its_positions() -> None:
    student, teacher = Answer({"points": torch.randn(2, 3, 4, 4)}), Answer({"points": torch.randn(2, 3, 4, 4)})
    loss = ConfidenceRegression()
    one = loss(Step(student, teacher=teacher, extras={"confidence": torch.ones(2)}))
    mixed = loss(Step(student, teacher=teacher, extras={"confidence": torch.tensor([0.0, 2.0])}))
    assert one.shape == (2, 4, 4)
    torch.testing.assert_close(mixed, torch.stack([0 * one[0], 2 * one[1]]))


def test_a_missing_confidence_is_named() -> None:
    step = Step(Answer({"points": torch.randn(2, 3)}), teacher=Answer({"points": torch.randn(2, 3)}))
    with pytest.raises(InputError, match=r"teacher's outputs \(points\).*'trust'"):
        ConfidenceRegression(confidence="trust")(step)
