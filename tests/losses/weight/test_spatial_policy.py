import math

import torch

from edgekd.losses import Answer, Setup, Step
from edgekd.losses.weight.difficulty import cell_variance, laplacian
from edgekd.losses.weight.spatial_policy import (
    GRID,
    Policy,
    SpatialPolicy,
    log_likelihood,
    map_entropy,
    on_grid,
    standardised,
)

from ..steps import random

IMAGE = random(2, 1, 16, 16, dtype=torch.float32)
IMAGE[..., 8:] = 0.0  # texture on the left only


def step_of(generator: torch.Generator) -> Step:
    answers = Answer({"output": IMAGE * 0.5}), Answer({"output": IMAGE * 0.9})
    return Step(answers[0], {"teacher": answers[1]}, answers[1], {"image": IMAGE}, targets=IMAGE, generator=generator)


def policy_of(weight: SpatialPolicy) -> Policy:
    torch.manual_seed(0)
    step = step_of(torch.Generator())
    return weight.prepare(Setup(step.student, step.teachers, samples=2))


def test_it_sees_texture_contrast_error_and_gap_standardised_over_the_grid() -> None:
    seen = SpatialPolicy().seen(step_of(torch.Generator()))
    assert seen.shape == (2, 4, GRID, GRID)
    torch.testing.assert_close(seen.mean((2, 3)), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.square().mean((2, 3)), torch.ones(2, 4))
    torch.testing.assert_close(seen[:, 0], standardised(cell_variance(laplacian(IMAGE), GRID)))
    torch.testing.assert_close(seen[:, 2], standardised(on_grid((0.5 * IMAGE).abs()[:, 0])))


def test_maps_without_differences_are_zero_and_one_value_fills_the_grid() -> None:
    assert (standardised(torch.full((1, 1, 8, 8), 3.0)) == 0).all()
    assert (on_grid(torch.tensor([2.0, 5.0]))[1] == 5).all()


def test_the_likelihood_is_the_gaussian_s() -> None:
    sample, mean = random(2, 8, 8), random(2, 8, 8, seed=1)
    found = log_likelihood(sample, mean, 0.3) - math.log(0.3 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(found, torch.distributions.Normal(mean, 0.3).log_prob(sample).mean())


def test_a_uniform_map_has_full_entropy() -> None:
    assert torch.isclose(map_entropy(torch.zeros(1, 8, 8)), torch.tensor(1.0))
    assert map_entropy(5 * random(1, 8, 8)) < 0.99


def test_it_begins_near_uniform_and_is_resized_to_the_loss() -> None:
    weight = SpatialPolicy(deviation=1e-6)
    drawn = weight(step_of(torch.Generator().manual_seed(0)), torch.zeros(2, 16, 16), policy_of(weight))
    torch.testing.assert_close(drawn, torch.ones(2, 16, 16), atol=1e-4, rtol=0)


def test_it_learns_where_weight_lets_the_task_loss_fall() -> None:
    weight = SpatialPolicy(rate=2e-3, deviation=0.3, width=8)
    policy = policy_of(weight)
    generator = torch.Generator().manual_seed(1)
    loss = 0.0
    for _ in range(200):
        drawn = weight(step_of(generator), torch.zeros(2, GRID, GRID), policy)
        weight.update(policy, loss)  # of this step: the weights just drawn show in the next
        loss -= float(drawn[..., :4].mean()) - 1.0
    mean = policy(weight.seen(step_of(generator))).detach()
    assert mean.abs().max() < 4 and mean[..., :4].mean() > mean[..., 4:].mean() + 0.5


def test_a_step_of_its_own_optimizer_is_torch_s_adam() -> None:
    weight = SpatialPolicy(rate=0.01, bonus=0.5)
    policy, other = policy_of(weight), policy_of(weight)
    adam = torch.optim.Adam(other.layers.parameters(), lr=0.01, maximize=True)
    for seed in range(3):
        policy.before.copy_(random(*policy.before.shape, seed=seed))
        gradient = 0.5 * policy.before[1]  # no advantage: the task loss is not finite
        start = 0
        for parameter in other.layers.parameters():
            parameter.grad = gradient[start : start + parameter.numel()].reshape(parameter.shape).clone()
            start += parameter.numel()
        weight.update(policy, math.nan)
        adam.step()
    for mine, torchs in zip(policy.layers.parameters(), other.layers.parameters(), strict=True):
        torch.testing.assert_close(mine, torchs)
