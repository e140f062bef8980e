import math

import pytest
import torch
from torch import Tensor

from edgekd.models.weight_rounder import WeightRounder
from edgekd.models.weight_rounding import (
    HIGHEST,
    ZERO_RATIO,
    Scales,
    Weights,
    from_groups,
    in_groups,
    levels_of,
    round_ternary,
    round_weights,
    scales_of,
    stored_bits,
    zero_ratio,
    zero_ratio_alarm,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rounder_of(weight: Tensor, weights: Weights, block: int = 0, scales: Scales = "absmax") -> WeightRounder:
    rounder = WeightRounder(weights, tuple(weight.shape), 0, block, scales)
    rounder.observe(weight)
    rounder.disable_observer()
    return rounder


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("block", [0, 4, 7, 500])
def test_groups_are_runs_of_an_output_channel_and_go_back(axis: int, block: int) -> None:
    weight = random(3, 5, 2, 2)
    groups = in_groups(weight, axis, block)
    rows = [weight[:, one].flatten() if axis else weight[one].flatten() for one in range(weight.shape[axis])]
    size = block or len(rows[0])
    assert groups.shape == (len(rows), math.ceil(len(rows[0]) / size), size)
    assert torch.equal(groups[1, 0][: len(rows[1])], rows[1][:size])
    assert torch.equal(from_groups(groups, tuple(weight.shape), axis), weight)


def test_the_greatest_weight_of_a_group_has_the_last_level() -> None:
    weight = random(6, 50)
    for kind, block in (("int8", 0), ("int4", 0), ("int4", 16)):
        scales = scales_of(weight, 0, block, kind)  # type: ignore[arg-type]
        levels = levels_of(in_groups(weight, 0, block), scales, HIGHEST[kind])  # type: ignore[index]
        assert (levels.abs().amax(2) == HIGHEST[kind]).all()  # type: ignore[index]
        assert block == 0 or torch.equal(scales, scales.half().float())


def test_a_ternary_scale_is_the_mean_and_zeroes_a_third_of_normal_weights() -> None:
    weight = random(64, 300)
    scales = scales_of(weight, 0, 128, "ternary")
    torch.testing.assert_close(scales[:, 2, 0], weight[:, 256:].abs().mean(1), rtol=1e-3, atol=0)  # half a group
    assert zero_ratio(weight, scales, 0, 128) == pytest.approx(0.31, abs=0.01)
    rounded = from_groups(round_ternary(in_groups(weight, 0, 128), scales), (64, 300), 0)
    assert zero_ratio(weight, scales, 0, 128) == pytest.approx(float((rounded == 0).float().mean()))


def test_gradients_are_those_of_learned_step_sizes() -> None:
    weight, scale = (
        random(1, 1, 200).double().requires_grad_(),
        torch.tensor(0.25, dtype=torch.float64).requires_grad_(),
    )
    slope = random(1, 1, 200, seed=1).double()
    (round_weights(weight, scale, 7) * slope).sum().backward()  # type: ignore[no-untyped-call]
    ratio = weight.detach() / 0.25
    inside = ratio.abs() <= 7.5
    of_scale = torch.where(inside, ratio.round().clamp(-7, 7) - ratio, 7 * ratio.sign())
    assert weight.grad is not None and scale.grad is not None and not inside.all()
    torch.testing.assert_close(weight.grad, slope * inside)
    torch.testing.assert_close(scale.grad, (of_scale * slope).sum())


def test_ternary_weights_all_learn() -> None:
    weight = random(2, 1, 20).requires_grad_()
    round_ternary(weight, torch.full((2, 1, 1), 0.3)).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None and torch.equal(weight.grad, torch.ones_like(weight))


def fitted_zero_ratio(learned: bool) -> float:
    """Train ternary weights towards those of a network in float, a little more peaked than a Laplace distribution; return the zero ratio.

    The scale is a parameter, of a hundred times the weights' learning rate, or a statistic of the weights.
    """
    sizes = -torch.rand(2048, generator=torch.Generator().manual_seed(1)).log()
    wanted = random(1, 1, 2048).sign() * sizes**1.25
    weight = wanted.clone().requires_grad_()
    scale = scales_of(wanted[0], 0, 0, "ternary").clone().requires_grad_()
    optimizer = torch.optim.Adam([{"params": [weight], "lr": 1e-4}, {"params": [scale], "lr": 1e-2}])
    for _ in range(200):
        if learned:
            rounded = round_weights(weight, scale, 1)
        else:
            rounded = round_ternary(weight, scales_of(weight[0], 0, 0, "ternary"))
        optimizer.zero_grad()
        (rounded - wanted).square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return zero_ratio(weight[0], scale.detach() if learned else scales_of(weight[0], 0, 0, "ternary"), 0, 0)


def test_a_learned_ternary_scale_drifts_to_zeros_and_the_mean_does_not() -> None:
    low, high = ZERO_RATIO
    assert fitted_zero_ratio(learned=True) > high
    assert low <= fitted_zero_ratio(learned=False) <= high


def test_the_alarm_names_the_layer() -> None:
    assert zero_ratio_alarm({"a.weight": 0.3, "b.weight": 0.59}) == ""
    assert "b.weight 70%" in zero_ratio_alarm({"a.weight": 0.3, "b.weight": 0.7})


def test_bits_are_counted_by_the_formula() -> None:
    assert stored_bits((256, 512), 0, "ternary", 128) == 2.125 * 256 * 512
    assert stored_bits((16, 8, 3, 3), 0, "int4") == 16 * (72 * 4 + 32)
    assert stored_bits((10, 100), 0, "ternary", 128) == 10 * (128 * 2 + 16)  # a group is filled up


@pytest.mark.parametrize("scales", ["absmax", "learned"])
def test_scales_follow_the_weights_while_they_are_observed_and_hold_then(scales: Scales) -> None:
    weight = random(4, 30)
    rounder = rounder_of(weight, "int4", scales=scales)
    before = rounder.scale.detach().clone()
    assert torch.equal(before, scales_of(weight, 0, 0, "int4"))
    rounder(2 * weight)
    assert torch.equal(rounder.scale, before)
    rounder.enable_observer()
    rounder(2 * weight)
    torch.testing.assert_close(rounder.scale.detach(), 2 * before)
    rounder.disable_fake_quant()
    assert torch.equal(rounder(weight), weight)


def test_plain_descent_moves_a_learned_scale_as_the_paper_does() -> None:
    weight, slope = random(4, 30), random(4, 30, seed=1)
    rounder = rounder_of(weight, "int4", scales="learned")
    assert not rounder(weight).requires_grad  # held
    rounder.enable_observer()
    (rounder(weight) * slope).sum().backward()
    base = rounder.base.clone().requires_grad_()
    (from_groups(round_weights(in_groups(weight, 0, 0), base, 7), (4, 30), 0) * slope).sum().backward()  # type: ignore[no-untyped-call]
    assert base.grad is not None
    torch.testing.assert_close(rounder.base * rounder.share.grad, base.grad / math.sqrt(30 * 7))
    rounder.share.data.fill_(0.5)
    rounder.reset_parameters()
    assert (rounder.share == 1).all()
