"""One group of layers cut alone, to see what it costs and what it is worth."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from edgekd.data import Part
from edgekd.models.signature import Signature
from edgekd.stages.prune.groups import Group
from edgekd.stages.prune.pruner import prune_until
from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.prune.widths import legal_width

_SHARE = 0.5  # of a group's channels, largest_cut at most


@dataclass(frozen=True)
class Cut:
    """A copy of the network in which one group has lost `channels` of its own."""

    network: nn.Module
    channels: int


def cut_alone(
    module: nn.Module,
    signature: Signature,
    settings: PruneSettings,
    granularity: int,
    group: Group,
    groups: Sequence[Group],
    calibration: Part | None = None,
) -> Cut | None:
    """Cut half of one group's channels and nothing else; None where the granularity leaves it nothing to lose.

    Args:
        module: the network, which is not changed.
        signature: its inputs.
        settings: the importance and the largest cut.
        granularity: what channel counts stay multiples of.
        group: the one to cut.
        groups: all of them.
        calibration: samples, for importances that need them.
    """
    if not group.fits(granularity):
        return None
    width, multiple = group.channels // group.parts, group.multiple(granularity)
    kept = legal_width(width * (1 - _SHARE), width, settings.largest_cut, multiple)
    lost = width - min(kept, (width - 1) // multiple * multiple)
    alone = settings.model_copy(
        update={
            "keep": (*settings.keep, *(other.root for other in groups if other != group)),
            "axes": (),
            "scope": "local",
            "steps": 1,
            "largest_cut": lost / width,
        }
    )
    network = copy.deepcopy(module)
    prune_until(network, signature, alone, granularity, lambda candidate: False, calibration)
    removed = group.channels - channels_of(network.get_submodule(group.root))
    return Cut(network, removed) if removed else None


def channels_of(layer: nn.Module) -> int:
    """Return how many output channels a layer has."""
    return int(getattr(layer, "out_channels", None) or layer.out_features)  # type: ignore[arg-type]
