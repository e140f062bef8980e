import torch

from edgekd.losses.gradient.agreement_mask import AgreementMask, agreement_mask

from ..steps import random


def test_equal_gradients_pass_unchanged() -> None:
    gradient = random(2, 3, scale=1e-5)
    assert torch.equal(AgreementMask()({"w": torch.stack([gradient] * 4)})["w"], gradient)


def test_conflicting_gradients_shrink() -> None:
    gradients = torch.tensor([[1.0, 1.0], [1.0, -0.8], [1.0, 1.0]], dtype=torch.float64)
    filtered, mean = AgreementMask()({"w": gradients})["w"], gradients.mean(0)
    assert filtered[0] == mean[0] and 0 < filtered[1] < 0.2 * mean[1]


def test_the_mask_is_the_exponential_of_the_relative_variance() -> None:
    gradients = random(3, 2, 2)
    mask = agreement_mask(gradients, tau=0.5)
    for i in range(2):
        for j in range(2):
            values = gradients[:, i, j]
            mean = values.sum() / 3
            variance = sum((value - mean) ** 2 for value in values) / 3
            torch.testing.assert_close(mask[i, j], torch.exp(-0.5 * variance / mean**2))


def test_it_does_not_depend_on_the_gradients_scale() -> None:
    gradients = random(3, 4)
    torch.testing.assert_close(agreement_mask(1e-6 * gradients), agreement_mask(gradients))


def test_more_tau_shrinks_more_and_none_keeps_the_mean() -> None:
    gradients = random(3, 4)
    torch.testing.assert_close(AgreementMask(tau=0.0)({"w": gradients})["w"], gradients.mean(0))
    assert (agreement_mask(gradients, 2.0) < agreement_mask(gradients, 1.0)).all()


def test_zero_and_half_precision_gradients_stay_finite() -> None:
    opposite = torch.tensor([[0.0, 1.0], [0.0, -1.0]], dtype=torch.bfloat16)
    filtered = AgreementMask()({"w": opposite})["w"]
    assert filtered.dtype == torch.bfloat16 and (filtered == 0).all()
