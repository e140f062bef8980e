"""What an importance is: it looks at a network, and on calibration samples where it must, and scores groups of channels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Score = Callable[[Any], Tensor | None]


@dataclass(frozen=True)
class Importance:
    """How channels are ranked.

    `measure` takes the network and the calibration part and returns the score of Torch-Pruning's groups: (channels,), mean 1
    within a group, so that groups of unlike layers compete; None where it has none. `data` says that it needs the samples,
    `labels` that it needs their targets too.
    """

    measure: Callable[[nn.Module, Any], Score]
    source: str
    data: bool = False
    labels: bool = False


def summed(group: Any, values: Callable[[Any], Tensor | None]) -> Tensor | None:
    """Return the sum over a group's layers of their scores, divided by its mean.

    Args:
        group: of Torch-Pruning.
        values: gives a dependency's score of all channels of its layer, (channels,), or None to leave it out.
    """
    total = torch.zeros(len(group[0].idxs))
    counted = False
    for position, (dep, indices) in enumerate(group):
        score, roots = values(dep), group[position].root_idxs
        if score is not None and None not in roots:
            total.index_add_(0, torch.tensor(roots), score[indices].float())
            counted = True
    return total / total.mean() if counted else None
