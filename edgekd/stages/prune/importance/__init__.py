"""What tells which channels matter least, by name. A file here is one idea; Torch-Pruning's own are a line."""

from typing import Any

from torch import nn

from edgekd.data import Part
from edgekd.stages.prune.importance.activation import activation
from edgekd.stages.prune.importance.fpgm import fpgm
from edgekd.stages.prune.importance.gradients import hessian, taylor
from edgekd.stages.prune.importance.importance import Importance, Score


def _weights(name: str, **settings: Any) -> Any:
    """Return the measure that is Torch-Pruning's importance of this name."""

    def measure(module: nn.Module, part: Part | None) -> Score:
        import torch_pruning as tp

        return getattr(tp.importance, name)(**settings)  # type: ignore[no-any-return]

    return measure


IMPORTANCES = {
    "magnitude": Importance(
        _weights("GroupMagnitudeImportance", p=2), "Li et al., Pruning Filters for Efficient ConvNets, 2017"
    ),
    "batch-norm": Importance(_weights("BNScaleImportance"), "Liu et al., Network Slimming, 2017"),
    "taylor": Importance(taylor, "Molchanov et al., 2019", data=True, labels=True),
    "hessian": Importance(hessian, "LeCun et al., Optimal Brain Damage, 1989", data=True, labels=True),
    "fpgm": Importance(fpgm, "He et al., Filter Pruning via Geometric Median, 2019"),
    "lamp": Importance(_weights("LAMPImportance"), "Lee et al., Layer-Adaptive Sparsity, 2021"),
    "activation": Importance(activation, "Muralidharan et al., Minitron, 2024", data=True),
    "random": Importance(_weights("RandomImportance"), "the least that any other must beat"),
}

__all__ = ["IMPORTANCES", "Importance", "Score"]
