"""The distance of two clouds of points by optimal transport."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def transport_cost(cost: Tensor, epsilon: float = 0.05, iterations: int = 30) -> Tensor:
    """Return the entropic cost of moving one uniform cloud onto another, a scalar.

    The dual value mean(f) + mean(g) of potentials with f_i = -e log mean_j exp((g_j - c_ij) / e), and g likewise. Both are
    updated at once and averaged with their last value (Feydy et al., 2019, section 3), which treats both clouds alike.

    Args:
        cost: c (N, M), not negative.
        epsilon: e > 0, blurs the plan.
        iterations: updates of both potentials; the gradient flows through all.
    """
    rows, columns = torch.zeros_like(cost[:, 0]), torch.zeros_like(cost[0])

    def updated(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        return _soft_min(cost - columns, epsilon, 1), _soft_min(cost - rows[:, None], epsilon, 0)

    for _ in range(iterations):
        new_rows, new_columns = updated(rows, columns)
        rows, columns = (rows + new_rows) / 2, (columns + new_columns) / 2
    rows, columns = updated(rows, columns)
    return rows.mean() + columns.mean()


def _soft_min(value: Tensor, epsilon: float, dim: int) -> Tensor:
    return -epsilon * (torch.logsumexp(-value / epsilon, dim) - math.log(value.shape[dim]))


def sinkhorn_divergence(
    mine: tuple[Tensor, ...],
    yours: tuple[Tensor, ...],
    ground: Callable[[tuple[Tensor, ...], tuple[Tensor, ...]], Tensor],
    epsilon: float = 0.05,
    iterations: int = 30,
) -> Tensor:
    """Return S = OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2, a scalar: 0 for equal clouds (Feydy et al., 2019, equation 3).

    Args:
        mine: what describes the points of a: tensors (N, ...).
        yours: of b: tensors (M, ...); N and M may differ.
        ground: gives the costs (N, M) of two clouds.
        epsilon: blur of the plan.
        iterations: updates of the potentials.
    """

    def moved(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> Tensor:
        return transport_cost(ground(one, other), epsilon, iterations)

    return moved(mine, yours) - (moved(mine, mine) + moved(yours, yours)) / 2
