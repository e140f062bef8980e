"""Setting the least weights to zero: how many, and which."""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgekd.stages.mask.settings import MaskSettings


@torch.no_grad()
def set_zeros(weights: Sequence[tuple[Tensor, int]], settings: MaskSettings, share: float) -> None:
    """Set a share of the weights to zero, in place; what is zero already counts.

    Args:
        weights: each with the axis that counts its inputs.
        settings: pattern, scope and importance.
        share: of zeros among the weights.
    """
    if settings.group is not None:
        for weight, axis in weights:
            _thin(weight, axis, settings.group, share)
    elif settings.scope == "local":
        for weight, _ in weights:
            _clear([weight], settings, share)
    else:
        _clear([weight for weight, _ in weights], settings, share)


def leaves_some(sizes: Sequence[int], settings: MaskSettings) -> bool:
    """Return whether so many zeros leave every one of the weights of these sizes at least one element."""
    apart = [[size] for size in sizes] if settings.scope == "local" else [list(sizes)]
    return all(round(settings.zeros * sum(one)) <= sum(one) - len(one) for one in apart)


def _clear(weights: list[Tensor], settings: MaskSettings, share: float) -> None:
    """Set the least elements of several weights to zero together; the greatest of each weight stays."""
    scores = []
    for weight in weights:
        score = _lamp(weight.abs()) if settings.importance == "lamp" else weight.abs()
        score = score.flatten().clone()
        score[score.argmax()] = torch.inf
        scores.append(score)
    least = _least(torch.cat(scores), round(share * sum(map(len, scores))))
    for weight, chosen in zip(weights, least.split([len(score) for score in scores]), strict=True):
        weight.masked_fill_(chosen.view(weight.shape), 0)


def _least(scores: Tensor, count: int) -> Tensor:
    """Return which scores (N,) are the least, exactly so many; of equal ones the first."""
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    if count:
        limit = scores.kthvalue(count).values
        chosen = scores < limit
        equal = (scores == limit).nonzero().flatten()
        chosen[equal[: count - int(chosen.sum())]] = True
    return chosen


def _lamp(sizes: Tensor) -> Tensor:
    """Return w² / sum of v² over all |v| >= |w| of a weight.

    Source: Lee et al., Layer-adaptive sparsity for the magnitude-based pruning, 2021, eq. 4.
    """
    squares, order = sizes.flatten().double().square().sort(stable=True)
    larger = squares.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(squares)
    scores[order] = squares / larger.clamp(min=torch.finfo(torch.float64).tiny)
    return scores.view(sizes.shape)


def _thin(weight: Tensor, axis: int, group: tuple[int, int], share: float) -> None:
    """Set the least of every M consecutive inputs to zero: as many as the share of M is, rounded down."""
    kept, size = group
    count = min(size - kept, int(share * size + 1e-9))
    groups = weight.movedim(axis, -1).unflatten(-1, (-1, size))
    chosen = torch.zeros_like(groups, dtype=torch.bool)
    chosen.scatter_(-1, groups.abs().argsort(dim=-1, stable=True)[..., :count], True)
    weight.masked_fill_(chosen.flatten(-2).movedim(-1, axis), 0)
