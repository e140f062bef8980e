"""Filters near the geometric median of their layer are those that the others can stand for."""

from typing import Any

import torch
from torch import Tensor, nn

from edgekd.data import Part
from edgekd.stages.prune.importance.importance import Score, summed


def fpgm(module: nn.Module, part: Part | None) -> Score:
    """Return the sum of the distances of a filter to all filters of its layer.

    Source: He et al., Filter Pruning via Geometric Median, 2019, equation 7. edgekd variant: summed over the layers of a
    group; a depthwise filter has no distances of its own.
    """
    import torch_pruning as tp

    outwards = (tp.prune_conv_out_channels, tp.prune_linear_out_channels)

    @torch.no_grad()
    def distances(dep: Any) -> Tensor | None:
        if dep.handler not in outwards:
            return None
        layer: nn.Module = dep.target.module
        weight: Tensor = layer.weight  # type: ignore[assignment]
        filters = (weight.transpose(0, 1) if getattr(layer, "transposed", False) else weight).flatten(1)
        return torch.cdist(filters, filters).sum(1)

    return lambda group: summed(group, distances)
