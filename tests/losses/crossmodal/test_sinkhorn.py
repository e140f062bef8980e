import itertools

import pytest
import torch
from torch import Tensor

from edgekd.losses.crossmodal.sinkhorn import sinkhorn_divergence, transport_cost

from ..steps import random


def squares(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> Tensor:
    return torch.cdist(one[0], other[0]).square()


def divergence(a: Tensor, b: Tensor, **fields: float) -> Tensor:
    return sinkhorn_divergence((a,), (b,), squares, **fields)  # type: ignore[arg-type]


def test_it_comes_close_to_the_exact_transport_found_over_all_permutations() -> None:
    a, b = random(5, 2), random(5, 2, seed=1) + 1
    cost = squares((a,), (b,))
    exact = min(sum(cost[i, j] for i, j in enumerate(order)) / 5 for order in itertools.permutations(range(5)))
    torch.testing.assert_close(transport_cost(cost, 0.01, 2000), exact, rtol=0.02, atol=0)  # type: ignore[arg-type]
    torch.testing.assert_close(divergence(a, b, epsilon=0.01, iterations=2000), exact, rtol=0.02, atol=0)  # type: ignore[arg-type]


def test_the_potentials_are_those_of_the_optimal_plan() -> None:
    """The entropic cost is <P, c> + e KL(P || uniform) at the plan with uniform sums that minimizes it."""
    cost, epsilon = random(3, 4).abs(), 0.5
    kernel = torch.exp(-cost / epsilon) / 12
    u, v = torch.ones(3).double(), torch.ones(4).double()
    for _ in range(500):
        u = 1 / 3 / (kernel @ v)
        v = 1 / 4 / (kernel.T @ u)
    plan = u[:, None] * kernel * v
    expected = (plan * cost).sum() + epsilon * (plan * (plan * 12).log()).sum()
    torch.testing.assert_close(transport_cost(cost, epsilon, 200), expected)


@pytest.mark.parametrize("iterations", [1, 30])
def test_it_is_zero_for_equal_clouds_symmetric_and_blind_to_the_order(iterations: int) -> None:
    a, b = random(6, 3), random(4, 3, seed=1)
    assert divergence(a, a, iterations=iterations).abs() < 1e-12
    torch.testing.assert_close(divergence(a, b, iterations=iterations), divergence(b, a, iterations=iterations))
    torch.testing.assert_close(divergence(a, a.flip(0), iterations=iterations), torch.zeros(()).double())
    assert divergence(a, b) > 0


def test_its_gradient_moves_one_cloud_onto_the_other() -> None:
    a, b = random(6, 2).requires_grad_(), random(6, 2, seed=1) + 2
    start = divergence(a, b).item()
    for _ in range(40):
        (gradient,) = torch.autograd.grad(divergence(a, b), a)
        with torch.no_grad():
            a -= gradient
    assert divergence(a, b) < 0.02 * start


def test_a_shift_costs_its_square() -> None:
    a, shift = random(5, 3), torch.tensor([0.3, -0.4, 1.2]).double()
    torch.testing.assert_close(
        divergence(a, a + shift, epsilon=0.1, iterations=500), shift.square().sum(), rtol=1e-3, atol=0
    )
